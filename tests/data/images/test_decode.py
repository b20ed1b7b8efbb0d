"""Tests of decoding against Pillow, for common kinds of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from convoy.data.images.bad_images import BadImageError
from convoy.data.images.decode import decode, open_image
from convoy.data.images.pixel_format import PixelFormat


@pytest.fixture(scope="module")
def photo(digit_images: list[tuple[int, Image.Image]]) -> Image.Image:
    """Return an asymmetric image of 61x47 pixels."""
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
    decoded = decode(str(tmp_path / name), PixelFormat(channels))
    assert decoded.mode == ("L" if channels == 1 else "RGB")
    expected = Image.open(tmp_path / name).convert(decoded.mode)
    assert np.array_equal(np.asarray(decoded), np.asarray(expected))


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGBA", "1", "LA"])
def test_modes(tmp_path: Path, photo: Image.Image, mode: str) -> None:
    path = tmp_path / ("a.jpg" if mode in ("L", "CMYK") else "a.png")
    (photo.convert("L").convert(mode) if mode == "LA" else photo.convert(mode)).save(path)
    expected = Image.open(path).convert("RGB")
    assert np.array_equal(np.asarray(decode(str(path), PixelFormat(3))), np.asarray(expected))


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
    decoded = np.asarray(decode(str(tmp_path / "a.png"), PixelFormat(3)))
    assert np.array_equal(decoded, UPRIGHT[orientation](np.asarray(photo)))


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "missing"])
def test_bad_images(tmp_path: Path, photo: Image.Image, damage: str) -> None:
    path = tmp_path / "a.jpg"
    photo.save(path)
    content = {"truncated": path.read_bytes()[:-200], "empty": b"", "text": b"not an image"}.get(damage)
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(BadImageError) as expected:
        decode(str(path), PixelFormat(3))
    with pytest.raises(BadImageError) as caught:
        open_image(str(path), PixelFormat(3)).pixels(1, 1)
    assert caught.value.path == str(path)
    # What Pillow says of it.
    assert str(caught.value) == str(expected.value)
    words = {"truncated": "truncated", "empty": "cannot identify", "text": "cannot identify", "missing": "no such file"}
    assert words[damage] in caught.value.reason
