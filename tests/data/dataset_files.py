"""Data sets of Hugging Face's `datasets` for tests, and their images as `datasets` decodes them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.data.data_module import ImageData

NAMES = ["cat", "dog", "bird"]


def picture(number: int, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def make(count: int, *, first: int = 0, **columns: Any) -> Dataset:
    """Return a data set of `count` images with classes in turn."""
    images = [
        {"bytes": picture(first + number, "JPEG" if number % 3 else "PNG"), "path": None} for number in range(count)
    ]
    features = {"img": ImageFeature(), "label": ClassLabel(names=NAMES)}
    content: dict[str, Any] = {"img": images, "label": [number % 3 for number in range(count)]}
    for name, (values, feature) in columns.items():
        content[name], features[name] = values, feature
    return Dataset.from_dict(content, features=Features(features))


def config(root: Path | str, **changes: Any) -> DataConfig:
    settings: dict[str, Any] = {
        "name": "huggingface",
        "source": "huggingface",
        "root": str(root),
        "image_size": 16,
        "mean": [0.0],
        "std": [1.0],
        "num_workers": 2,
        "augment": AugmentConfig(),
    }
    return DataConfig(**(settings | changes))


def content(data: DataConfig, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    module = ImageData(data, seed=1, micro_batch_size=2, accumulation=1, eval_batch_size=500)
    module.open()
    (batch,) = module.evaluation_loader(split)
    return (batch.images * 255).round().to(torch.uint8), batch.targets


def content_of(dataset: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    images = [torch.from_numpy(np.array(row["img"].convert("RGB"))).permute(2, 0, 1) for row in dataset]
    return torch.stack(images), torch.tensor([row["label"] for row in dataset])
