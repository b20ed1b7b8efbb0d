"""Tests on real image folders: decoding ImageNet photographs and training on CIFAR-10 JPEGs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Run

from convoy.data.images.decode import open_image
from convoy.data.images.pixel_format import PixelFormat

CLASSES = ("airplane", "automobile", "bird", "cat", "deer")


def test_photographs_decode_as_pillow_decodes_them(real_data: Callable[..., Path]) -> None:
    paths = sorted(real_data("imagenet_samples", "n0[1-2]*").rglob("*.JPEG"))
    assert len(paths) > 50
    for path in paths:
        opened = open_image(str(path), PixelFormat(3))
        expected = np.asarray(Image.open(path).convert("RGB"))
        assert np.array_equal(opened.pixels(opened.height, 1), expected), path


@pytest.mark.slow
def test_an_image_folder_of_cifar10_trains(real_data: Callable[..., Path], convoy: Callable[..., Run]) -> None:
    root = real_data("cifar10_jpeg", *(f"train/{name}/00[0-3]?.jpg" for name in CLASSES))
    run = convoy(
        "train",
        *("data=image_folder", f"data.root={root}", "data.image_size=32", "data.augment.random_resized_crop=null"),
        *(
            "model.layers=[CONV3-16,POOL2,CONV3-32,POOL4,FC-64,FC-5]",
            "logger=csv",
            "scheduler=constant",
            "optimizer.lr=0.01",
        ),
        *("trainer.gpus=0", "trainer.precision=32", "trainer.max_epochs=20", "trainer.global_batch_size=20"),
        *("trainer.test=false", "hardware.cpu_threads=1", "optimizer.lr=0.01"),
    )
    assert run.code == 0, run.err
    losses = [float(row["train/loss"]) for row in run.rows() if row["train/loss"]]
    assert run.summary()["steps"] == 20 * 9  # 200 images, of which a tenth is held out, in batches of 20
    # A uniform guess over five classes has a cross entropy of ln 5 = 1.61.
    assert losses[-1] < 1.2
