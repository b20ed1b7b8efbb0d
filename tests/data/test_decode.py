"""Decoded pixels against Pillow's and torchvision's, for the kinds of files that folders hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from scipy import stats
from torchvision.transforms import v2

from convoy.data.decode import (
    NUM_CROP_NUMBERS,
    BadImageError,
    crop_and_resize,
    decode,
    random_box,
    resize_and_center,
)
from convoy.data.randomness import Stream, as_uniform, random_bits


@pytest.fixture(scope="module")
def photo(digit_images: list[tuple[int, Image.Image]]) -> Image.Image:
    """61x47 pixels, nowhere symmetric."""
    sheet = Image.new("RGB", (61, 47), (10, 60, 120))
    for place, (_, image) in enumerate(digit_images[:4]):
        sheet.paste(image, (15 * place, 7 * place))
    return sheet


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {"quality": 90}),
        ("a.JPEG", {"quality": 90, "progressive": True}),
        ("a.png", {}),
        ("a.webp", {}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("a.gif", {}),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_formats(tmp_path: Path, photo: Image.Image, name: str, options: dict[str, object], channels: int) -> None:
    photo.save(tmp_path / name, **options)
    decoded = decode(str(tmp_path / name), channels)
    assert decoded.mode == ("L" if channels == 1 else "RGB")
    expected = Image.open(tmp_path / name).convert(decoded.mode)
    assert np.array_equal(np.asarray(decoded), np.asarray(expected))


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "1", "LA"])
def test_modes(tmp_path: Path, photo: Image.Image, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode in ("L", "CMYK") else "a.png")
    (photo.convert("L").convert(mode) if mode == "LA" else photo.convert(mode)).save(path)
    expected = Image.open(path).convert("RGB")
    assert np.array_equal(np.asarray(decode(str(path), 3)), np.asarray(expected))


# The EXIF standard's meaning of each orientation, by the operation that sets the image upright.
UPRIGHT = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(tmp_path: Path, photo: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    photo.save(tmp_path / "a.png", exif=exif)
    decoded = np.asarray(decode(str(tmp_path / "a.png"), 3))
    assert np.array_equal(decoded, UPRIGHT[orientation](np.asarray(photo)))


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "missing"])
def test_bad_images(tmp_path: Path, photo: Image.Image, damage: str) -> None:
    path = tmp_path / "a.jpg"
    photo.save(path)
    content = {"truncated": path.read_bytes()[:-200], "empty": b"", "text": b"not an image"}.get(damage)
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(BadImageError) as caught:
        decode(str(path), 3)
    assert caught.value.path == str(path)
    assert caught.value.reason


@pytest.mark.parametrize("size", [(61, 47), (47, 61), (50, 50), (24, 90), (200, 31)])
@pytest.mark.parametrize(("shorter_side", "cut"), [(32, 24), (24, 24), (31, 24)])
def test_resize_and_center_is_torchvisions(
    photo: Image.Image, size: tuple[int, int], shorter_side: int, cut: int
) -> None:
    image = photo.resize(size)
    expected = v2.Compose([v2.Resize(shorter_side), v2.CenterCrop(cut)])(image)
    assert np.array_equal(resize_and_center(image, shorter_side, cut), np.asarray(expected))
    gray = resize_and_center(image.convert("L"), shorter_side, cut)
    assert gray.shape == (cut, cut, 1)


def boxes(width: int, height: int, scale: list[float], count: int) -> np.ndarray:
    streams = range(Stream.RESIZED_CROP, Stream.RESIZED_CROP + NUM_CROP_NUMBERS)
    numbers = as_uniform(random_bits(1, 0, torch.arange(count), streams)).T.tolist()
    drawn = [random_box(width, height, scale, row) for row in numbers]
    return np.array([(box.left, box.top, box.width, box.height) for box in drawn])


@pytest.mark.parametrize(("width", "height"), [(500, 375), (300, 420)])
def test_random_boxes_are_distributed_as_torchvisions(width: int, height: int) -> None:
    ours = boxes(width, height, [0.08, 1.0], 4000)
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    crop = v2.RandomResizedCrop(224)
    drawn = [crop.make_params([image]) for _ in range(4000)]
    theirs = np.array([(p["left"], p["top"], p["width"], p["height"]) for p in drawn])
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    for array in (ours, theirs):
        assert (array[:, :2] >= 0).all()
        assert (array[:, :2] + array[:, 2:] <= (width, height)).all()
    assert stats.ks_2samp(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]).pvalue > 1e-3


@pytest.mark.parametrize(("width", "height"), [(1000, 20), (20, 1000)])
def test_box_of_a_narrow_image_is_its_center(width: int, height: int) -> None:
    # No part of 90 % of such an image has an aspect ratio up to 4/3.
    (box,) = {tuple(row) for row in boxes(width, height, [0.9, 1.0], 20).tolist()}
    long = round(20 * 4 / 3)
    assert box == ((1000 - long) // 2, 0, long, 20) if width > height else (0, (1000 - long) // 2, 20, long)


def test_crop_and_resize_is_torchvisions(photo: Image.Image) -> None:
    streams = range(Stream.RESIZED_CROP, Stream.RESIZED_CROP + NUM_CROP_NUMBERS)
    numbers = as_uniform(random_bits(3, 1, torch.arange(30), streams)).T.tolist()
    for row in numbers:
        box = random_box(*photo.size, [0.2, 1.0], row)
        expected = v2.functional.resized_crop(photo, box.top, box.left, box.height, box.width, [24, 24])
        assert np.array_equal(crop_and_resize(photo, box, 24), np.asarray(expected))
