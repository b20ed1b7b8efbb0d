"""Folders and arrays of photographs for benchmarks, cropped from the two of scikit-learn (640x427)."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

SHAPES = ((500, 375), (500, 333), (375, 400), (320, 427))
"""Common widths and heights in ImageNet."""

QUALITY = 97
"""JPEG quality, for about 85 KB per image; ImageNet's images have 110 KB on average."""


def write_folder(root: Path, num_images: int, num_classes: int = 4) -> None:
    """Write train/CLASS/*.jpg and val/CLASS/*.jpg with `num_images` each; the images are always the same."""
    photos = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    chance = random.Random(0)
    for split in ("train", "val"):
        for index in range(num_images):
            width, height = chance.choice(SHAPES)
            left, top = chance.randint(0, 640 - width), chance.randint(0, 427 - height)
            folder = root / split / f"class{index % num_classes}"
            folder.mkdir(parents=True, exist_ok=True)
            part = chance.choice(photos).crop((left, top, left + width, top + height))
            part.save(folder / f"{index:05}.jpg", quality=QUALITY)


def tiles(num_images: int, size: int) -> Tensor:
    """Return crops of the photographs as uint8 [num_images, 3, size, size]."""
    photos = load_sample_images().images
    chance = np.random.default_rng(0)
    images = np.empty((num_images, size, size, 3), dtype=np.uint8)
    for index in range(num_images):
        top, left = chance.integers(0, 427 - size), chance.integers(0, 640 - size)
        images[index] = photos[index % 2][top : top + size, left : left + size]
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
