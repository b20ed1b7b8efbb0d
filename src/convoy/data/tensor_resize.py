"""Bringing the images of a set in memory to the size and the channels that the network takes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Images at a time, so that their wider copies stay small beside the set.
_CHUNK = 4096


def fit_images(images: Tensor, size: int, fit: str) -> Tensor:
    """uint8 [n, C, size, size] from square uint8 images [n, C, S, S].

    Args:
        images: uint8 [n, C, S, S].
        size: in pixels; at least S for "pad".
        fit: "pad" puts zeros around the image, "resize" is Pillow's bilinear resizing (antialiased when it
            shrinks).
    """
    side = images.shape[-1]
    if side == size:
        return images
    if fit == "pad":
        before = (size - side) // 2
        after = size - side - before
        return functional.pad(images, [before, after, before, after])
    return torch.cat([_resized(chunk, size) for chunk in torch.split(images, _CHUNK)])


def with_channels(images: Tensor, channels: int) -> Tensor:
    """uint8 [n, channels, H, W] from [n, 1 or 3, H, W]: gray repeated to 3, colours to gray for 1.

    Gray is the luma of ITU-R BT.601 in Pillow's fixed-point arithmetic, so that both give the same values.
    """
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.repeat(1, 3, 1, 1)
    return torch.cat([_luma(chunk) for chunk in torch.split(images, _CHUNK)])


def _resized(images: Tensor, size: int) -> Tensor:
    resized = functional.interpolate(
        images.to(torch.float32), size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def _luma(images: Tensor) -> Tensor:
    red, green, blue = images.to(torch.int32).unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).to(torch.uint8)[:, None]
