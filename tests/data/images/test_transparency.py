"""Transparent images on a background, compared with NumPy's arithmetic."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.conftest import TINY, Run

from convoy.data.check import check_data
from convoy.data.images.decode import decode, open_image
from convoy.data.images.pixel_format import PixelFormat
from convoy.data.images.preparation import Preparation
from convoy.data.shards.encode import encoded_jpeg, raw_pixels
from convoy.evaluation.trained_run import TrainedRun

GENERATOR = np.random.default_rng(1)
COLORS = GENERATOR.integers(0, 256, (20, 30, 4), dtype=np.uint8)
PALE: tuple[int, int, int] = (250, 240, 10)


def composed(pixels: NDArray[np.uint8], color: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return RGBA over a color: alpha times the image plus the rest of the color."""
    alpha = pixels[..., 3:].astype(float) / 255
    return alpha * pixels[..., :3] + (1 - alpha) * np.array(color)


def palette() -> Image.Image:
    """Return an image with colors 0 to 9, of which 3 is transparent."""
    image = Image.fromarray(GENERATOR.integers(0, 10, (20, 30), dtype=np.uint8), "P")
    image.putpalette(GENERATOR.integers(0, 256, 30, dtype=np.uint8).tobytes())
    return image


FILES: dict[str, tuple[Callable[[], Image.Image], str, dict[str, Any]]] = {
    "RGBA": (lambda: Image.fromarray(COLORS), "a.png", {}),
    "gray with alpha": (lambda: Image.fromarray(np.ascontiguousarray(COLORS[..., 2:]), "LA"), "a.png", {}),
    "palette": (palette, "a.png", {"transparency": 3}),
    "palette with alpha": (palette, "a.png", {"transparency": bytes(range(0, 250, 25))}),
    "GIF": (palette, "a.gif", {"transparency": 3}),
    "RGB with a transparent color": (
        lambda: Image.fromarray(COLORS[..., :3] // 128 * 255),
        "a.png",
        {"transparency": (255, 0, 255)},
    ),
    "WebP": (lambda: Image.fromarray(COLORS), "a.webp", {"lossless": True, "exact": True}),
    "TIFF": (lambda: Image.fromarray(COLORS), "a.tif", {}),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("color", [PALE, (0, 0, 0)])
def test_a_transparent_image_is_composed_with_the_background(
    name: str, color: tuple[int, int, int], tmp_path: Path
) -> None:
    make, file, options = FILES[name]
    path = tmp_path / file
    make().save(path, **options)
    with Image.open(path) as opened:
        reference = np.asarray(opened.convert("RGBA"))
        stored = np.asarray(opened.convert("RGB"))
    assert (reference[..., 3] < 255).any()
    ours = np.asarray(decode(str(path), PixelFormat(3, color)))
    assert np.abs(ours - composed(reference, color)).max() <= 1
    pixels = open_image(str(path), PixelFormat(3, color)).pixels(20, 1)
    assert np.array_equal(pixels, ours)
    gray = np.asarray(decode(str(path), PixelFormat(1, color)))
    assert np.abs(gray - composed(reference, color) @ [0.299, 0.587, 0.114]).max() <= 2
    # Without a background, the colors are those of the file.
    assert np.array_equal(np.asarray(decode(str(path), PixelFormat(3))), stored)


def test_an_opaque_image_is_unchanged(tmp_path: Path) -> None:
    Image.fromarray(COLORS[..., :3]).save(tmp_path / "a.png")
    Image.fromarray(COLORS[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    for name, pixels in (("a.png", COLORS[..., :3]), ("deep.png", COLORS[..., :1].repeat(3, 2))):
        assert np.array_equal(np.asarray(decode(str(tmp_path / name), PixelFormat(3, PALE))), pixels)


def test_packed_and_prepared_images_have_the_background(tmp_path: Path) -> None:
    Image.fromarray(COLORS[:, :20]).save(tmp_path / "a.png")
    expected = composed(COLORS[:, :20], PALE)
    packed = np.frombuffer(raw_pixels(str(tmp_path / "a.png"), 20, PixelFormat(3, PALE)), np.uint8).reshape(20, 20, 3)
    assert np.abs(packed - expected).max() <= 1
    jpeg = tmp_path / "a.jpg"
    jpeg.write_bytes(encoded_jpeg(str(tmp_path / "a.png"), 64, PixelFormat(3, (255, 255, 255))))
    white = composed(COLORS[:, :20], (255, 255, 255)).mean()
    assert abs(np.asarray(Image.open(jpeg)).mean() - white) < 3
    preparation = Preparation(3, 20, 20, "resize", 20, 3, (0.5,), (0.5,), PALE)
    prepared = preparation.pixels(preparation.open(str(tmp_path / "a.png"))).permute(1, 2, 0).numpy()
    assert np.array_equal(prepared, packed)
    assert Preparation.from_data(json.loads(json.dumps(preparation.as_data()))) == preparation


@pytest.mark.parametrize("value", ["whit", [1, 2], [1, 2, 256], [0.5, 0.5, 0.5], 3])
def test_a_value_that_is_no_color_is_refused(value: object, folder_data: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    (fault, *_) = check_data(folder_data(tmp_path, background=value, num_classes=2))
    assert fault.key == "data.background"
    assert "must be white, black or [red,green,blue], each a whole number from 0 to 255" in str(fault)
    if value == "whit":
        assert "did you mean white" in str(fault)


def test_a_run_on_transparent_images_is_predicted_alike(convoy: Callable[..., Run], tmp_path: Path) -> None:
    for index in range(24):
        folder = tmp_path / "set" / ("train" if index % 3 else "val") / str(index % 2)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.roll(COLORS, index, 0)
        pixels[..., :3] = 128  # the classes differ in their transparency only
        pixels[..., 3] = pixels[..., 3] // (2 if index % 2 else 1)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    words = ("data=set", "data.image_size=16", "data.background=white", "trainer.global_batch_size=4")
    layers = "model.layers=[CONV3-4,POOL4,FC-2]"
    done = convoy("train", *TINY, layers, *words, "trainer.max_epochs=1")
    assert done.code == 0, done.err
    done = convoy("predict", "run=run", "set/val/0/0.png", "format=jsonl", folder=None)
    assert done.code == 0, done.err
    config = TrainedRun.open("run").config.data
    image = next(iter(TrainedRun.open("run").open_data().batches("val"))).images[0].numpy().transpose(1, 2, 0)
    pixels = 255 * (image * np.array(config.std) + np.array(config.mean))
    white = composed(np.asarray(Image.open("set/val/0/0.png")), (255, 255, 255))
    assert abs(pixels.mean() - white.mean()) < 3
    assert pixels.min() > 120
