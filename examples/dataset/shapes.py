"""Pictures of squares and disks, drawn when they are needed."""

import numpy as np
from numpy.typing import NDArray


class Shapes:
    """Map-style data set of gray images [32, 32] of two classes."""

    classes = ("square", "disk")

    def __init__(self, num_images: int, seed: int = 0) -> None:
        self.num_images = num_images
        self.seed = seed

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int]:
        """Return an image and its class."""
        generator = np.random.default_rng([self.seed, index])
        label = index % 2
        radius, (x, y) = generator.integers(4, 9), generator.integers(10, 22, 2)
        columns, rows = np.meshgrid(np.arange(32) - x, np.arange(32) - y)
        inside = np.hypot(columns, rows) if label else np.maximum(abs(columns), abs(rows))
        return np.where(inside <= radius, 255, 0).astype(np.uint8), label
