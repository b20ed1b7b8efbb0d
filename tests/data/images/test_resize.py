"""Tests of crop and resize against Pillow and torchvision, on photographs.

The photographs are the two that come with scikit-learn, 640x427, saved again in the ways that folders hold.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from sklearn.datasets import load_sample_images
from torchvision.transforms import v2

from convoy.data.images import jpeg
from convoy.data.images.bad_images import BadImageError
from convoy.data.images.crop_geometry import NUM_CROP_NUMBERS, CropBox, random_box
from convoy.data.images.decode import decode, open_image
from convoy.data.images.pixel_format import PixelFormat
from convoy.data.images.resize import crop_and_resize, resize_and_center
from convoy.data.sampling.randomness import Stream, as_uniform, random_bits

PHOTOS = [Image.fromarray(pixels) for pixels in load_sample_images().images]
SIZE = 112


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


CASES: dict[str, tuple[Image.Image, dict[str, object]]] = {
    "4:2:0": (PHOTOS[0], {"quality": 90}),
    "4:2:2": (PHOTOS[1], {"quality": 75, "subsampling": "4:2:2"}),
    "4:4:4": (PHOTOS[0], {"quality": 97, "subsampling": "4:4:4"}),
    "odd size": (PHOTOS[0].crop((3, 5, 640, 406)), {"quality": 92}),
    "odd and upright": (PHOTOS[1].crop((100, 0, 361, 427)), {"quality": 92}),
    "grayscale": (PHOTOS[0].convert("L"), {"quality": 90}),
    "CMYK": (PHOTOS[1].convert("CMYK"), {"quality": 90}),
    "RGB, no YCbCr": (PHOTOS[1], {"quality": 90, "keep_rgb": True}),
    "progressive": (PHOTOS[1], {"quality": 90, "progressive": True}),
    "optimized": (PHOTOS[0], {"quality": 90, "optimize": True}),
    "restarts": (PHOTOS[0], {"quality": 90, "restart_marker_rows": 1}),
    "metadata, upright": (PHOTOS[0], {"quality": 90, "exif": turned(1)}),
    "EXIF rotated": (PHOTOS[0], {"quality": 90, "exif": turned(6)}),
    "EXIF transposed": (PHOTOS[1], {"quality": 90, "exif": turned(7)}),
    "smaller than the result": (PHOTOS[0].resize((61, 47)), {"quality": 95}),
}


@pytest.fixture(params=CASES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    image, options = CASES[request.param]
    image.save(tmp_path / "a.jpg", **options)
    return str(tmp_path / "a.jpg")


def by_pillow(path: str, channels: int) -> Image.Image:
    with Image.open(path) as opened:
        return ImageOps.exif_transpose(opened).convert("RGB" if channels == 3 else "L")


def empty(channels: int, size: int = SIZE) -> NDArray[np.uint8]:
    return np.empty((size, size, channels), dtype=np.uint8)


def difference(ours: NDArray[np.uint8], expected: Image.Image) -> tuple[float, int]:
    """Return mean and largest difference, in levels."""
    levels = np.abs(ours.astype(int) - np.asarray(expected).reshape(ours.shape))
    return float(levels.mean()), int(levels.max())


@pytest.mark.parametrize("channels", [3, 1])
def test_random_crops_equal_torchvisions_of_pillows_image(path: str, channels: int) -> None:
    image, picture = by_pillow(path, channels), open_image(path, PixelFormat(channels))
    assert (picture.width, picture.height) == image.size
    streams = range(Stream.RESIZED_CROP, Stream.RESIZED_CROP + NUM_CROP_NUMBERS)
    for row in as_uniform(random_bits(3, 1, torch.arange(12), streams)).T.tolist():
        box = random_box(picture.width, picture.height, [0.08, 1.0], row)
        expected = v2.functional.resized_crop(image, box.top, box.left, box.height, box.width, [SIZE, SIZE])
        ours, mirrored = empty(channels), empty(channels)
        crop_and_resize(picture, box, ours)
        mean, largest = difference(ours, expected)
        assert mean <= 0.1
        assert largest <= 1
        crop_and_resize(picture, box, mirrored, mirrored=True)
        assert np.array_equal(mirrored, ours[:, ::-1])


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("shorter_side", [SIZE, 128, 150])
def test_center_crops_equal_torchvisions_of_pillows_image(path: str, channels: int, shorter_side: int) -> None:
    image, ours = by_pillow(path, channels), empty(channels)
    expected = v2.Compose([v2.Resize(shorter_side), v2.CenterCrop(SIZE)])(image)
    resize_and_center(open_image(path, PixelFormat(channels)), shorter_side, ours)
    mean, largest = difference(ours, expected)
    assert mean <= 0.1
    assert largest <= 1


@pytest.mark.parametrize("sides", [(72, 128), (120, 50)])
def test_crops_that_are_not_square_equal_torchvisions(path: str, sides: tuple[int, int]) -> None:
    image, picture = by_pillow(path, 3), open_image(path, PixelFormat(3))
    height, width = sides
    ours = np.empty((*sides, 3), dtype=np.uint8)
    for row in as_uniform(random_bits(4, 1, torch.arange(4), range(NUM_CROP_NUMBERS))).T.tolist():
        box = random_box(picture.width, picture.height, [0.08, 1.0], row, width / height)
        crop_and_resize(picture, box, ours)
        assert 0.7 < box.width / box.height * height / width < 1.4
        mean, largest = difference(
            ours, v2.functional.resized_crop(image, box.top, box.left, box.height, box.width, sides)
        )
        assert mean <= 0.2
        assert largest <= 1
    for larger in (1, 1.25):
        shorter_side = round(min(sides) * larger)
        area = [round(side * shorter_side / min(sides)) for side in sides]
        scale = max(area[0] / image.height, area[1] / image.width)
        # As torchvision, which rounds down.
        size = [max(int(side * scale + 1e-9), least) for side, least in zip(image.size[::-1], area, strict=True)]
        expected = v2.Compose([v2.Resize(size), v2.CenterCrop(sides)])(image)
        resize_and_center(picture, shorter_side, ours)
        mean, largest = difference(ours, expected)
        assert mean <= 0.2
        assert largest <= 1


@pytest.mark.parametrize("size", [(61, 47), (47, 61), (50, 50), (24, 90), (200, 31)])
@pytest.mark.parametrize(("shorter_side", "cut"), [(32, 24), (24, 24), (31, 24)])
def test_the_center_of_all_shapes(tmp_path: Path, size: tuple[int, int], shorter_side: int, cut: int) -> None:
    path = tmp_path / "a.png"
    PHOTOS[0].resize(size).save(path)
    for channels in (3, 1):
        ours = empty(channels, cut)
        resize_and_center(open_image(str(path), PixelFormat(channels)), shorter_side, ours)
        expected = v2.Compose([v2.Resize(shorter_side), v2.CenterCrop(cut)])(by_pillow(str(path), channels))
        assert difference(ours, expected)[1] <= 1


@pytest.mark.parametrize("photo", [0, 1])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("size", [70, 48, 30, 24, 17])
def test_large_photographs_are_shrunk_as_they_are_decoded_within_a_level(
    tmp_path: Path, photo: int, subsampling: str, size: int
) -> None:
    path = str(tmp_path / "a.jpg")
    PHOTOS[photo].save(path, quality=92, subsampling=subsampling)
    picture, image, factors = open_image(path, PixelFormat(3)), by_pillow(path, 3), []

    def noting(bottom: int, factor: int) -> NDArray[np.uint8]:
        factors.append(factor)
        return picture.pixels(bottom, factor)

    watched = type(picture)(picture.width, picture.height, picture.can_shrink, noting)
    ours = empty(3, size)
    for box in (CropBox(0, 0, 640, 427), CropBox(31, 7, 501, 420), CropBox(131, 3, 425, 423)):
        expected = v2.functional.resized_crop(image, box.top, box.left, box.height, box.width, [size, size])
        crop_and_resize(watched, box, ours)
        assert difference(ours, expected)[0] <= 0.6
    resize_and_center(watched, size, ours)
    assert difference(ours, v2.Compose([v2.Resize(size), v2.CenterCrop(size)])(image))[0] <= 0.6
    # Three times smaller than the photograph is still left to the filter: 420 / 2 >= 3 x 70.
    assert set(factors) == {{70: 2, 48: 2, 30: 4, 24: 4, 17: 8}[size]}


@pytest.mark.parametrize("name", ["4:2:0", "4:2:2", "4:4:4", "odd size", "grayscale", "restarts", "RGB, no YCbCr"])
def test_rows_above_the_last_one_needed_are_those_of_the_whole_image(tmp_path: Path, name: str) -> None:
    image, options = CASES[name]
    image.save(tmp_path / "a.jpg", **options)
    file = jpeg.read_file(str(tmp_path / "a.jpg"))
    frame, before = jpeg.read_frame(file), bytes(file)
    assert frame is not None
    assert frame.is_sequential
    channels = len(image.getbands())
    whole = np.asarray(decode(str(tmp_path / "a.jpg"), PixelFormat(channels))).reshape(
        image.height, image.width, channels
    )
    for bottom in (1, 15, 16, 17, 100, 231, image.height - 3, image.height):
        decoded = jpeg.decode_rows(file, frame, channels, bottom)
        assert decoded is not None
        assert np.array_equal(decoded[:bottom], whole[:bottom])
        assert file == before


def test_unusual_jpegs_are_decoded_by_pillow() -> None:
    def frame_of(image: Image.Image, **options: object) -> jpeg.Frame | None:
        written = BytesIO()
        image.save(written, "JPEG", **options)
        return jpeg.read_frame(bytearray(written.getvalue()))

    photo = PHOTOS[0]
    usual = frame_of(photo)
    assert usual is not None
    assert (usual.width, usual.height, usual.is_sequential, usual.has_metadata) == (640, 427, True, False)
    progressive, metadata = frame_of(photo, progressive=True), frame_of(photo, exif=turned(1))
    assert progressive is not None
    assert not progressive.is_sequential
    assert metadata is not None
    assert metadata.has_metadata
    assert frame_of(photo.convert("CMYK")) is None
    written = BytesIO()
    photo.save(written, "JPEG")
    file = bytearray(written.getvalue())
    for length in range(0, usual.height_at + 4):
        assert jpeg.read_frame(file[:length]) is None
    arithmetic = bytearray(file)
    arithmetic[usual.height_at - 4] = 0xC9
    assert jpeg.read_frame(arithmetic) is None
    twelve_bits = bytearray(file)
    twelve_bits[usual.height_at - 1] = 12
    assert jpeg.read_frame(twelve_bits) is None


@pytest.mark.parametrize("kept", [0.02, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_bad_for_every_requested_part(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "a.jpg"
    PHOTOS[0].save(path, quality=90)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(BadImageError) as expected:
        decode(str(path), PixelFormat(3))
    with pytest.raises(BadImageError) as caught:
        crop_and_resize(open_image(str(path), PixelFormat(3)), CropBox(0, 0, 20, 5), empty(3))
    assert str(caught.value) == str(expected.value)


def test_a_file_with_more_behind_its_end_is_the_same_image(tmp_path: Path) -> None:
    path, ours = tmp_path / "a.jpg", empty(3)
    PHOTOS[0].save(path, quality=90)
    resize_and_center(open_image(str(path), PixelFormat(3)), 128, ours)
    again = empty(3)
    path.write_bytes(path.read_bytes() + b"\0" * 100)
    resize_and_center(open_image(str(path), PixelFormat(3)), 128, again)
    assert np.array_equal(ours, again)


def test_damage_in_a_file_with_an_end_marker_decodes_like_pillow(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    PHOTOS[0].save(path, quality=90)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = b"\0" * 400
    path.write_bytes(content)
    ours = empty(3)
    resize_and_center(open_image(str(path), PixelFormat(3)), 128, ours)
    expected = v2.Compose([v2.Resize(128), v2.CenterCrop(SIZE)])(by_pillow(str(path), 3))
    assert difference(ours, expected)[1] <= 1
