"""Degradation of images, uint8 [H, W, C], that a network learns to restore."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from convoy.config.degradation_schema import DegradationConfig
from convoy.data.degradation.axis_filter import Taps, filter_axis, mirrored, to_pixels
from convoy.data.degradation.bicubic import enlarge_bicubic, shrink_bicubic
from convoy.data.images.resize import with_channels

Pixels = NDArray[np.uint8]

_RADIUS = 3
"""Half of the width of the Gaussian kernel, in standard deviations."""


def degraded(pixels: Pixels, degradation: DegradationConfig, seed: int) -> Pixels:
    """Return the network's input for an image.

    Args:
        pixels: image [H, W, C]. Its sides must be multiples of the scale.
        degradation: steps, each rounded to uint8.
        seed: of the noise, any int64.

    Returns:
        [H / s, W / s, C] for the output scale s; C is 1 if colors are removed.
    """
    if degradation.blur:
        pixels = blurred(pixels, degradation.blur)
    if degradation.scale > 1:
        pixels = shrink_bicubic(pixels, degradation.scale)
        if degradation.enlarge:
            pixels = enlarge_bicubic(pixels, degradation.scale)
    if degradation.gray:
        pixels = luma(pixels)
    if degradation.noise:
        pixels = noisy(pixels, degradation.noise, seed)
    return pixels if degradation.jpeg is None else compressed(pixels, degradation.jpeg)


def blurred(pixels: Pixels, deviation: float) -> Pixels:
    """Return pixels after a Gaussian blur with a standard deviation in pixels; borders are mirrored."""
    values = pixels.astype(np.float64)
    for axis in (0, 1):
        values = filter_axis(values, _gaussian_taps(values.shape[axis], deviation), axis)
    return to_pixels(values)


def luma(pixels: Pixels) -> Pixels:
    """Return the luma [H, W, 1] of pixels [H, W, 3], equal to Pillow's conversion to gray; gray ones as they are."""
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    gray: Pixels = with_channels(image, 1)[0].permute(1, 2, 0).numpy()
    return gray


def noisy(pixels: Pixels, deviation: float, seed: int) -> Pixels:
    """Return pixels with Gaussian noise, independent for each value, with a standard deviation in gray levels."""
    noise = np.random.default_rng(seed % 2**64).standard_normal(pixels.shape, dtype=np.float32)
    return to_pixels(pixels + deviation * noise.astype(np.float64))


def compressed(pixels: Pixels, quality: int) -> Pixels:
    """Return pixels [H, W, 1 or 3] after a JPEG compression; the chroma of RGB is stored in half the resolution."""
    buffer = BytesIO()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(buffer) as stored:
        return np.array(stored).reshape(pixels.shape)


def _gaussian_taps(length: int, deviation: float) -> Taps:
    offsets = np.arange(-round(_RADIUS * deviation), round(_RADIUS * deviation) + 1)[:, None]
    weights = np.exp(-0.5 * (offsets / deviation) ** 2)
    weights = np.broadcast_to(weights / weights.sum(), (len(offsets), length))
    return mirrored(offsets + np.arange(length), length), weights
