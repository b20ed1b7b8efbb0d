"""Filters along one axis of an image whose borders are mirrored."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Taps = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Indices and weights, both [taps, length], of the values that each value of the result is a sum of."""


def filter_axis(values: NDArray[np.float64], taps: Taps, axis: int) -> NDArray[np.float64]:
    """Return the weighted sums of values [H, W, C] along an axis, whose length becomes that of the taps."""
    shape = [1] * values.ndim
    shape[axis] = -1
    total: NDArray[np.float64] = np.zeros(1)
    for index, weight in zip(*taps, strict=True):
        total = total + np.take(values, index, axis) * weight.reshape(shape)
    return total


def mirrored(positions: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Return the indices 0 .. length - 1 for positions beyond the border: -1 is 0, and `length` is length - 1."""
    both_ways = np.concatenate([np.arange(length), np.arange(length)[::-1]])
    indices: NDArray[np.int64] = both_ways[positions % (2 * length)]
    return indices


def to_pixels(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return values rounded half up, as MATLAB does, and clipped to uint8."""
    return np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8)
