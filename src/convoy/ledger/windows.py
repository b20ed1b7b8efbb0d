"""Windows that slide over an image: what they leave over, and how far a place of the output sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

Pair = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Window:
    """A window of one operation and the map that it slides over.

    Attributes:
        size: of the window with its holes: dilation x (size - 1) + 1.
        inputs: height and width of the map.
        ceil: whether a last place that is only partly covered counts.
        filters: channels that come out of a convolution; 0 for others.
    """

    size: Pair
    stride: Pair
    padding: Pair
    inputs: Pair
    ceil: bool = False
    filters: int = 0


@dataclass(frozen=True)
class Field:
    """What a place of a map sees of the image: the side of its receptive field, and the total stride, in pixels."""

    size: Pair = (1, 1)
    stride: Pair = (1, 1)

    def through(self, window: Window) -> Field:
        """After a window (Dumoulin & Visin 2016, "A guide to convolution arithmetic"): r + (F - 1) s, s S."""
        size = tuple(r + (f - 1) * s for r, f, s in zip(self.size, window.size, self.stride, strict=True))
        stride = tuple(s * step for s, step in zip(self.stride, window.stride, strict=True))
        return Field((size[0], size[1]), (stride[0], stride[1]))

    def joined(self, other: Field) -> Field:
        """Of a sum or a concatenation of two maps: the larger of each."""
        size = tuple(max(pair) for pair in zip(self.size, other.size, strict=True))
        stride = tuple(max(pair) for pair in zip(self.stride, other.stride, strict=True))
        return Field((size[0], size[1]), (stride[0], stride[1]))


def pair_text(pair: Pair) -> str:
    """One number for a square, else height x width."""
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


def window_of(name: str, arguments: Sequence[Any], keywords: dict[str, Any]) -> Window | None:
    """The window of an operation over maps (N, C, H, W); None for one that has none.

    Args:
        name: of the operation in ATen, without namespace and overload.
        arguments: as ATen's signatures have them.
        keywords: the same, by name.
    """
    if name not in _SIGNATURES or len(arguments[0].shape) != 4:
        return None
    given = dict(zip(_SIGNATURES[name], arguments, strict=False)) | keywords
    if given.get("transposed"):
        return None
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
        filters=int(given["weight"].shape[0]) if "weight" in given else 0,
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


def misfit(window: Window) -> str:
    """What is left over where (N - F + 2P) / S + 1 is not whole; empty where it is.

    Rows and columns of padding that no window reaches are told as such: nothing of the image is lost by them.
    """
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
