"""Similarity of images to their originals: PSNR and SSIM, as papers on restoration measure them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric

PEAK = 255.0

WINDOW, DEVIATION = 11, 1.5
"""Side and standard deviation in pixels of the Gaussian window of SSIM, section III.B of Wang et al. 2004."""

_K1, _K2 = 0.01, 0.03
_LUMA = (65.481, 128.553, 24.966)
"""Weights of red, green and blue in 0..1 in the luma of ITU-R BT.601, 16 to 235, as in MATLAB's `rgb2ycbcr`."""


def levels(images: Tensor, color: str, border: int) -> Tensor:
    """Return images as they are measured: whole numbers from 0 to 255, without the border.

    Args:
        images: [B, C, H, W]; values are clipped to 0..1.
        color: y for the luma of ITU-R BT.601 in the range 16 to 235, [B, 1, H, W], of RGB or of gray images, whose
            values are lumas from 0 to 1; rgb for all channels.
        border: pixels per side that are cut off.
    """
    height, width = images.shape[2:]
    values = images[:, :, border : height - border, border : width - border].float().clamp(0, 1)
    if color == "rgb":
        return (values * PEAK).round()
    if values.shape[1] == 3:
        red, green, blue = values.unbind(1)
        luma = (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue)[:, None]
    else:
        luma = sum(_LUMA) * values
    return (16 + luma).round()


def peak_signal_to_noise_ratio(images: Tensor, originals: Tensor) -> Tensor:
    """Return the PSNR of each image in decibels, [B]; infinite for equal images.

    Args:
        images: [B, C, H, W], values from 0 to 255.
        originals: likewise.
    """
    errors = (images - originals).square().flatten(1).mean(1)
    return 10 * torch.log10(PEAK**2 / errors)


def structural_similarity(images: Tensor, originals: Tensor, peak: float = PEAK) -> Tensor:
    """Return the SSIM of each image, [B]: the mean over channels and all positions of the window (Wang et al. 2004).

    Positions where the window reaches beyond the image are omitted, as in the authors' code. In an image with a
    shorter side, the window has its size.

    Args:
        images: [B, C, H, W], values from 0 to `peak`.
        originals: likewise.
        peak: largest possible value.
    """
    means, other_means = _filtered(images), _filtered(originals)
    # The sums of squares are about the middle of the range, so that fewer digits cancel out.
    middle = peak / 2
    centered, others = images - middle, originals - middle
    variances = _filtered(centered.square()) - (means - middle).square()
    other_variances = _filtered(others.square()) - (other_means - middle).square()
    covariances = _filtered(centered * others) - (means - middle) * (other_means - middle)
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    similarity = (2 * means * other_means + c1) * (2 * covariances + c2)
    similarity = similarity / ((means.square() + other_means.square() + c1) * (variances + other_variances + c2))
    return similarity.flatten(1).mean(1)


def _filtered(images: Tensor) -> Tensor:
    """Return the weighted means of all windows, [B, C, H - WINDOW + 1, W - WINDOW + 1]."""
    channels, *size = images.shape[1:]
    for axis, side in enumerate(size):
        length = min(WINDOW, side)
        offsets = torch.arange(length, device=images.device, dtype=images.dtype) - (length - 1) / 2
        weights = torch.exp(-0.5 * (offsets / DEVIATION).square())
        shape = (channels, 1, length, 1) if axis == 0 else (channels, 1, 1, length)
        kernel = (weights / weights.sum()).view(shape[1:]).expand(shape)
        images = functional.conv2d(images, kernel, groups=channels)
    return images


class MeanQuality(Metric):
    """Mean over images of a measure of each image, on the device until it is computed.

    Args:
        measure: function of (images, originals) in `levels` that returns a value per image, [B].
        color: see `levels`.
        border: see `levels`.
    """

    full_state_update = False
    total: Tensor
    num_images: Tensor

    def __init__(self, measure: Callable[[Tensor, Tensor], Tensor], color: str, border: int) -> None:
        super().__init__()
        self._measure = measure
        self._levels = partial(levels, color=color, border=border)
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("num_images", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Count a batch, both [B, C, H, W] with values in 0..1."""
        self.total += self._measure(self._levels(outputs), self._levels(targets)).sum()
        self.num_images += len(outputs)

    def compute(self) -> Tensor:
        """Return the mean; infinite if an image is equal to its original and the measure is PSNR."""
        return self.total / self.num_images
