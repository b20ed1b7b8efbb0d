"""Sliding windows of convolutions and poolings: remainders, receptive fields and strides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

Pair = tuple[int, int]
"""(height, width)."""


@dataclass(frozen=True)
class Window:
    """Window of one operation and the feature map under it.

    Attributes:
        size: Size including dilation: dilation x (size - 1) + 1.
        stride: Step of the window.
        padding: Padding on each side.
        inputs: Height and width of the feature map.
        ceil: Whether a last position that is only partly covered counts.
        filters: Output channels of a convolution; 0 for other operations.
        is_transposed: Whether the window spreads each position instead: the stride is that of the output.
    """

    size: Pair
    stride: Pair
    padding: Pair
    inputs: Pair
    ceil: bool = False
    filters: int = 0
    is_transposed: bool = False


@dataclass(frozen=True)
class Field:
    """Receptive field of a position of a feature map: its size and its stride, in input pixels."""

    size: Pair = (1, 1)
    stride: Pair = (1, 1)

    def through(self, window: Window) -> Field | None:
        """Return the field after a window: r + (F - 1) s and s S (Dumoulin & Visin 2016, arXiv:1603.07285).

        A position after a transposed window depends on up to F / S inputs, rounded up, and its stride is s / S. None if
        that is no whole number of pixels.
        """
        if window.is_transposed:
            sides = zip(self.size, window.size, window.stride, self.stride, strict=True)
            size = tuple(r + (-(-f // step) - 1) * s for r, f, step, s in sides)
            if any(s % step for s, step in zip(self.stride, window.stride, strict=True)):
                return None
            stride = tuple(s // step for s, step in zip(self.stride, window.stride, strict=True))
            return Field((size[0], size[1]), (stride[0], stride[1]))
        size = tuple(r + (f - 1) * s for r, f, s in zip(self.size, window.size, self.stride, strict=True))
        stride = tuple(s * step for s, step in zip(self.stride, window.stride, strict=True))
        return Field((size[0], size[1]), (stride[0], stride[1]))

    def joined(self, other: Field) -> Field:
        """Return the field of a sum or a concatenation of two feature maps: the maximum of both."""
        size = tuple(max(pair) for pair in zip(self.size, other.size, strict=True))
        stride = tuple(max(pair) for pair in zip(self.stride, other.stride, strict=True))
        return Field((size[0], size[1]), (stride[0], stride[1]))


def pair_text(pair: Pair) -> str:
    """Format a pair: one number for a square, otherwise height x width."""
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


def window_of(name: str, arguments: Sequence[Any], keywords: dict[str, Any]) -> Window | None:
    """Return the window of an operation over feature maps (N, C, H, W); None if it has none.

    Args:
        name: ATen operation, without namespace and overload.
        arguments: Positional arguments of the operation.
        keywords: Keyword arguments of the operation.
    """
    if name not in _SIGNATURES or len(arguments[0].shape) != 4:
        return None
    given = dict(zip(_SIGNATURES[name], arguments, strict=False)) | keywords
    is_transposed = bool(given.get("transposed"))
    size = _pair(given["weight"].shape[2:] if "weight" in given else given["size"])
    dilation = _pair(given.get("dilation") or 1)
    height, width = ((f - 1) * d + 1 for f, d in zip(size, dilation, strict=True))
    image = given["image"].shape
    return Window(
        size=(height, width),
        stride=_pair(given.get("stride") or size),
        padding=_pair(given.get("padding") or 0),
        inputs=(int(image[2]), int(image[3])),
        ceil=bool(given.get("ceil")),
        filters=int(given["weight"].shape[is_transposed]) if "weight" in given else 0,
        is_transposed=is_transposed,
    )


_SIGNATURES = {
    "convolution": ("image", "weight", "bias", "stride", "padding", "dilation", "transposed"),
    "max_pool2d_with_indices": ("image", "size", "stride", "padding", "dilation", "ceil"),
    "avg_pool2d": ("image", "size", "stride", "padding", "ceil"),
    "im2col": ("image", "size", "dilation", "padding", "stride"),
}


def _pair(value: Any) -> Pair:
    sides = [int(side) for side in value] if isinstance(value, Sequence) else [int(value)]
    return (sides[0], sides[-1])


def window_remainder(window: Window) -> str:
    """Describe the remainder if (N - F + 2P) / S + 1 is not an integer; return an empty string otherwise.

    Rows and columns of padding that no window reaches are reported as unused padding, since no part of the image is
    lost.
    """
    if window.is_transposed:
        return ""
    left = [
        (n + 2 * p - f) % s
        for n, f, p, s in zip(window.inputs, window.size, window.padding, window.stride, strict=True)
    ]
    if not any(left):
        return ""
    axis = 0 if left[0] else 1
    n, f, p, s = window.inputs[axis], window.size[axis], window.padding[axis], window.stride[axis]
    places = Fraction(n + 2 * p - f, s) + 1
    sum_text = f"({n} - {f} + 2*{p})/{s} + 1 = {float(places):.4g}"
    if window.ceil:
        return f"{sum_text}: rounded up, the last window reaches past the edge"
    lost = [max(0, over - pad) for over, pad in zip(left, window.padding, strict=True)]
    if not any(lost):
        return f"{sum_text}: the last {_counted(left)} of padding {'is' if sum(left) == 1 else 'are'} not used"
    return f"{sum_text}: the last {_counted(lost)} {'is' if sum(lost) == 1 else 'are'} dropped"


def _counted(amounts: Sequence[int]) -> str:
    words = [
        f"{amount} {axis}{'s' if amount > 1 else ''}"
        for amount, axis in zip(amounts, ("row", "column"), strict=True)
        if amount
    ]
    return " and ".join(words)
