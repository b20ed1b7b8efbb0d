"""Evaluation of large images by windows that overlap."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from convoy.config.image_size import Sides


def by_windows(network: Callable[[Tensor], Tensor], images: Tensor, window: Sides, overlap: float) -> Tensor:
    """Return the mean of a network's outputs for windows that cover the images.

    Args:
        network: function that returns maps [B, C, h, w] of the size of its images.
        images: [B, channels, H, W].
        window: largest height and width of a window.
        overlap: share of a window that the next one repeats, at least 0 and below 1.

    Returns:
        [B, C, H, W], float32.
    """
    height, width = images.shape[2:]
    tall, wide = min(window.height, height), min(window.width, width)
    total: Tensor | None = None
    count = images.new_zeros(1, 1, height, width, dtype=torch.float32)
    for top in _starts(height, tall, overlap):
        for left in _starts(width, wide, overlap):
            part = (..., slice(top, top + tall), slice(left, left + wide))
            maps = network(images[part]).float()
            if total is None:
                total = maps.new_zeros(*maps.shape[:2], height, width)
            total[part] += maps
            count[part] += 1
    assert total is not None, "an image has a window"
    return total / count


def _starts(length: int, window: int, overlap: float) -> list[int]:
    """Return the beginnings of windows that cover a length, the last of which ends with it."""
    stride = max(1, round(window * (1 - overlap)))
    return [*range(0, length - window, stride), length - window]
