"""Images whose colors say where each pixel comes from, so that moved targets can be compared with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig

WIDTH, HEIGHT = 120, 90
CELL = 15
"""Side in pixels of the squares of a mask that have one class."""
CLASSES = 6


def position_image() -> Image.Image:
    """Return an image with red = 2 x, green = 2 y and blue = 255."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return Image.fromarray(np.stack([2 * columns, 2 * rows, 255 + 0 * rows], axis=-1).astype(np.uint8))


def class_at(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the class of the mask at positions in pixels."""
    return (x // CELL + 2 * (y // CELL)).astype(np.int64) % CLASSES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder of images and index masks: 12 for training, 2 for val and 3 for test."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    mask = Image.fromarray(class_at(columns, rows).astype(np.uint8))
    for split, count in (("train", 12), ("val", 2), ("test", 3)):
        for index in range(count):
            for kind, image in (("images", position_image()), ("masks", mask)):
                path = tmp_path / "set" / split / kind / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path)
    return tmp_path / "set"


@pytest.fixture
def mask_data() -> Callable[..., DataConfig]:
    def make(root: Path, augment: AugmentConfig | None = None, **changes: object) -> DataConfig:
        settings: dict[str, object] = {
            "name": "segmentation_folder",
            "source": "segmentation_folder",
            "target": "mask",
            "root": str(root),
            "classes": list("abcdef"),
            "image_size": [60, 80],
            "eval_view": "fit",
            "mean": [0.0],
            "std": [1.0],
        }
        return DataConfig(**(settings | changes), augment=augment or AugmentConfig())  # type: ignore[arg-type]

    return make
