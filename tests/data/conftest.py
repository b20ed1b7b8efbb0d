"""Fixtures: folders of real images, made of scikit-learn's digits, and a separate cache of `datasets`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig

MakeData = Callable[..., DataConfig]


@pytest.fixture
def folder_data() -> MakeData:
    """Return a function that makes the config of an image folder; augmentation is off by default."""

    def make(root: Path, **changes: object) -> DataConfig:
        settings: dict[str, object] = {
            "name": "image_folder",
            "source": "image_folder",
            "root": str(root),
            "channels": 3,
            "image_size": 24,
            "mean": [0.5, 0.4, 0.3],
            "std": [0.2, 0.3, 0.25],
            "num_workers": 2,
            "augment": AugmentConfig(),
        }
        return DataConfig(**(settings | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def digit_images() -> list[tuple[int, Image.Image]]:
    """Return 300 digits as RGB images of different sizes, with their labels."""
    digits = load_digits()
    images = []
    for index in range(300):
        pixels = (digits.images[index] * 15.9375).astype(np.uint8)
        gray = Image.fromarray(pixels).resize((30 + index % 17, 28 + index % 23), Image.Resampling.BICUBIC)
        images.append((int(digits.target[index]), Image.merge("RGB", (gray, gray.rotate(90).resize(gray.size), gray))))
    return images


@pytest.fixture
def digits_folder(tmp_path: Path, digit_images: list[tuple[int, Image.Image]]) -> Path:
    """Return a folder of JPEGs of the digits zero, one and two: 20 each in train/, up to 10 each in val/."""
    names = ("zero", "one", "two")
    counts = dict.fromkeys(names, 0)
    for label, image in digit_images:
        if label > 2 or counts[names[label]] == 30:
            continue
        name = names[label]
        split = "train" if counts[name] < 20 else "val"
        folder = tmp_path / "digits" / split / name
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{counts[name]:03}.jpg", quality=95)
        counts[name] += 1
    return tmp_path / "digits"


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the cache of `datasets` in the test's folder, and the Hub out of reach."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
