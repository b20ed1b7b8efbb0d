"""Images of more than 8 bits, written by Pillow and by hand, against values that are computed from the pixels."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image

from convoy.commands.main import main
from convoy.config.data_schema import DataConfig
from convoy.data.datasets.dataset_images import DatasetImages
from convoy.data.images.bad_images import BadImageError
from convoy.data.images.decode import decode, open_image
from convoy.data.images.pixel_format import PixelFormat
from convoy.data.images.preparation import Preparation
from convoy.data.shards.encode import raw_pixels

RAMP = np.linspace(0, 1, 32 * 48).reshape(32, 48)


def tiff(path: Path, values: NDArray[Any], *, order: str = "<", photometric: int = 1, sample_format: int = 1) -> None:
    """Write an uncompressed gray TIFF of one strip (TIFF 6.0), of 12 bits if `values` are int8 triples."""
    height, width = values.shape[:2]
    bits = 12 if values.ndim == 3 else values.dtype.itemsize * 8
    width = width * 2 if values.ndim == 3 else width
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 0)]
    tags += [(277, 3, 1), (278, 4, height), (279, 4, len(data)), (339, 3, sample_format)]
    start = 8 + 2 + 12 * len(tags) + 4
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    for tag, kind, value in tags:
        field = struct.pack(f"{order}I" if kind == 4 else f"{order}HH", *([value] if kind == 4 else [value, 0]))
        head += struct.pack(f"{order}HHI", tag, kind, 1) + (struct.pack(f"{order}I", start) if tag == 273 else field)
    path.write_bytes(head + struct.pack(f"{order}I", 0) + data)


def packed_12_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return pairs of 12-bit values as three bytes each."""
    first, second = values[:, ::2].astype(np.uint32), values[:, 1::2].astype(np.uint32)
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=2).astype(np.uint8)


SIXTEEN = np.rint(RAMP * 65535)
Write = Callable[[Path], None]
KINDS: dict[str, tuple[str, Write]] = {
    "16-bit PNG": ("a.png", lambda path: Image.fromarray(SIXTEEN.astype(np.uint16)).save(path)),
    "16-bit TIFF": ("a.tif", lambda path: tiff(path, SIXTEEN.astype(np.uint16))),
    "16-bit TIFF, big-endian": ("a.tif", lambda path: tiff(path, SIXTEEN.astype(np.uint16), order=">")),
    "16-bit TIFF, white is zero": (
        "a.tif",
        lambda path: tiff(path, (65535 - SIXTEEN).astype(np.uint16), photometric=0),
    ),
    "16-bit TIFF, compressed": (
        "a.tiff",
        lambda path: Image.fromarray(SIXTEEN.astype(np.uint16)).save(path, compression="tiff_lzw"),
    ),
    "16-bit PGM": ("a.pgm", lambda path: Image.fromarray(SIXTEEN.astype(np.uint16)).save(path)),
    "16-bit JPEG 2000": ("a.jp2", lambda path: Image.fromarray(SIXTEEN.astype(np.uint16)).save(path)),
    "12-bit TIFF": ("a.tif", lambda path: tiff(path, packed_12_bits(np.rint(RAMP * 4095)))),
    "signed 16-bit TIFF": (
        "a.tif",
        lambda path: tiff(path, np.minimum(SIXTEEN, 32767).astype(np.int16), sample_format=2),
    ),
    "32-bit TIFF": ("a.tif", lambda path: tiff(path, SIXTEEN.astype(np.uint32))),
    "signed 32-bit TIFF": ("a.tif", lambda path: tiff(path, SIXTEEN.astype(np.int32), sample_format=2)),
    "float TIFF": ("a.tif", lambda path: tiff(path, RAMP.astype(np.float32), sample_format=3)),
    "float TIFF, big-endian": ("a.tif", lambda path: tiff(path, RAMP.astype(np.float32), order=">", sample_format=3)),
}


def expected(kind: str) -> NDArray[np.float64]:
    return np.minimum(SIXTEEN, 32767) / 257 if kind == "signed 16-bit TIFF" else RAMP * 255


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_more_bits_are_scaled(tmp_path: Path, kind: str, channels: int) -> None:
    name, write = KINDS[kind]
    write(tmp_path / name)
    pixels = open_image(str(tmp_path / name), PixelFormat(channels)).pixels(32, 1)
    assert pixels.shape == (32, 48, channels)
    # Half a level of rounding, and what JPEG 2000 loses.
    assert np.abs(pixels - expected(kind)[:, :, None]).max() <= (2 if "JPEG" in kind else 0.51)


def test_extremes_and_the_middle() -> None:
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    image = DatasetImages([(Image.fromarray(values), 0)], DataConfig(num_classes=2, channels=1), "train", seed=1)
    assert image.read(0).pixels(1, 1).ravel().tolist() == [0, 1, 128, 255]


def test_image_from_a_run_is_prepared_like_a_packed_one(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    KINDS["16-bit PNG"][1](path)
    preparation = Preparation(3, 16, 16, "resize", 16, 3, (0.5,), (0.5,))
    prepared = preparation.pixels(preparation.open(str(path))).permute(1, 2, 0).numpy()
    packed = np.frombuffer(raw_pixels(str(path), 16, PixelFormat(3)), np.uint8).reshape(16, 16, 3)
    assert np.array_equal(prepared, packed)
    assert abs(packed.mean() - 127.5) < 1


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("bits", [8, 16])
def test_orientation(tmp_path: Path, name: str, bits: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    values = SIXTEEN.astype(np.uint16) if bits == 16 else (RAMP * 255).round().astype(np.uint8)
    Image.fromarray(values).save(tmp_path / name, exif=exif)
    pixels = np.asarray(decode(str(tmp_path / name), PixelFormat(1)))
    assert np.abs(pixels - np.rot90(RAMP * 255, -1)).max() <= 0.51


@pytest.mark.parametrize(
    ("values", "sample_format", "words"),
    [
        (SIXTEEN.astype(np.uint32) * 65537, 1, "0..65535"),
        (SIXTEEN.astype(np.int32) - 1, 2, "has values from -1 to 65534"),
        (
            (RAMP * 255).astype(np.float32),
            3,
            "has values from 0 to 255; those of floating-point images must be in 0..1",
        ),
        (np.where(RAMP < 0.5, np.nan, RAMP).astype(np.float32), 3, "from nan to nan"),
    ],
)
def test_images_without_a_stated_range_are_refused(
    tmp_path: Path, values: NDArray[Any], sample_format: int, words: str
) -> None:
    tiff(tmp_path / "a.tif", values, sample_format=sample_format)
    with pytest.raises(BadImageError, match=words):
        decode(str(tmp_path / "a.tif"), PixelFormat(3))


def test_pack_keeps_the_scale(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for label in "ab":
            (tmp_path / "set" / split / label).mkdir(parents=True)
            KINDS["16-bit TIFF"][1](tmp_path / "set" / split / label / "a.tif")
    arguments = [f"data.root={tmp_path}/set", f"output={tmp_path}/packed", "size=32"]
    assert main(["pack", "data=image_folder", *arguments]) == 0
    content = next((tmp_path / "packed").glob("train-*.tar")).read_bytes()
    start = content.index(b"\xff\xd8")
    (tmp_path / "packed.jpg").write_bytes(content[start:])
    assert abs(np.asarray(Image.open(tmp_path / "packed.jpg")).mean() - 127.5) < 1
