"""Images of rectangles, drawn when they are needed."""

import numpy as np
from numpy.typing import NDArray


class Shapes:
    """Map-style data set of gray images [32, 32] of two classes."""

    classes = ("wide", "tall")

    def __init__(self, num_images: int, seed: int = 0) -> None:
        self.num_images = num_images
        self.seed = seed

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], int]:
        """Return an image and its class."""
        generator = np.random.default_rng([self.seed, index])
        label = index % 2
        left, top, long, short = generator.integers([2, 2, 12, 4], [14, 14, 17, 8])
        width, height = (short, long) if label else (long, short)
        image = np.zeros((32, 32), np.uint8)
        image[top : top + height, left : left + width] = 255
        return image, label
