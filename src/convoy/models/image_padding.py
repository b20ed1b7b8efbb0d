"""Padding of images to sides that a network can halve several times, and the crop of its maps to the images' size."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def padded(images: Tensor, multiple: int) -> Tensor:
    """Return images [B, C, H, W] with zeros at the right and the bottom, so that both sides are multiples."""
    height, width = images.shape[-2:]
    below, right = -height % multiple, -width % multiple
    return functional.pad(images, (0, right, 0, below)) if below or right else images


def cropped(maps: Tensor, like: Tensor, start: int = 0) -> Tensor:
    """Return the part of maps [B, C, H, W] that has the size of `like`.

    Args:
        maps: at least as large as `like` after `start`.
        like: images or maps [B, C, H, W].
        start: first row and column of the part.
    """
    height, width = like.shape[-2:]
    if maps.shape[-2:] == like.shape[-2:]:
        return maps
    return maps[..., start : start + height, start : start + width]
