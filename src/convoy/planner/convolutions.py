"""Signatures of convolutions, by which their measured workspaces are stored; the micro batch is not part of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor

FORWARD, BACKWARD, BACKWARD_OF_WEIGHTS = "forward", "backward", "backward of weights"


@dataclass(frozen=True)
class Convolution:
    """Convolution, or the gradients of one.

    Attributes:
        direction: "forward", "backward" (input and weights) or "backward of weights" (as in the first layer).
        input_shape: (channels, height, width).
        weight_shape: (out channels, in channels per group, height, width).
        stride: (vertical, horizontal).
        padding: (vertical, horizontal).
        dilation: (vertical, horizontal).
        groups: Number of groups of channels.
        dtype: "float32", "bfloat16" or "float16".
        channels_last: Whether it is computed in this memory format.
    """

    direction: str
    input_shape: tuple[int, int, int]
    weight_shape: tuple[int, int, int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    dtype: str
    channels_last: bool

    @classmethod
    def of(cls, func: Any, args: tuple[Any, ...]) -> Self | None:
        """Return the convolution of an ATen call; None if it is not a 2-D convolution or is transposed."""
        if func is torch.ops.aten.convolution.default:
            direction, images, weight, rest = FORWARD, args[0], args[1], args[3:9]
        elif func is torch.ops.aten.convolution_backward.default:
            direction, images, weight, rest = _backward(args[10]), args[1], args[2], args[4:10]
        else:
            return None
        stride, padding, dilation, transposed, _, groups = rest
        if transposed or images.dim() != 4:
            return None
        return cls(
            direction,
            tuple(images.shape[1:]),
            tuple(weight.shape),
            _pair(stride),
            _pair(padding),
            _pair(dilation),
            groups,
            str(images.dtype).removeprefix("torch."),
            # As cudnn_conv_suggest_memory_format of ATen.
            _is_channels_last(images) or _is_channels_last(weight),
        )

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the output."""
        height, width = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, padding, dilation in zip(
                self.input_shape[1:], self.weight_shape[2:], self.stride, self.padding, self.dilation, strict=True
            )
        )
        return self.weight_shape[0], height, width

    @property
    def signature(self) -> str:
        """Attributes as JSON; see `parse`."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def parse(cls, signature: str) -> Self:
        """Return the convolution with a signature."""
        values: dict[str, Any] = json.loads(signature)
        fields: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in values.items()}
        return cls(**fields)


def _backward(wanted: list[bool]) -> str:
    return BACKWARD if wanted[0] else BACKWARD_OF_WEIGHTS


def _pair(numbers: list[int]) -> tuple[int, int]:
    return (numbers[0], numbers[-1])


def _is_channels_last(tensor: Tensor) -> bool:
    """Return whether channels have the smallest stride, also in a slice of images, which is not contiguous."""
    return tensor.stride(1) == 1 and not tensor.is_contiguous()
