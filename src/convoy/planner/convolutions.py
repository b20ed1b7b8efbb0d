"""Signatures of convolutions, by which their measured workspaces are stored, and the tensors that they copy.

The micro batch is not part of a signature.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

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
            _memory_format(images, weight) is torch.channels_last,
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


def copied_bytes(func: Any, args: tuple[Any, ...]) -> int:
    """Return the bytes that ATen copies before a convolution, transposed or not, or before its gradients are computed.

    A tensor is copied if it is not contiguous in the memory format of the convolution: a slice, as the gradient of a
    concatenation or a crop is, or the gradient of logits, which softmax returns with contiguous channels. Sources:
    cudnn_convolution_forward_out and cudnn_convolution_backward in aten/src/ATen/native/cudnn/ConvShared.cpp, and
    mkldnn_convolution and mkldnn_convolution_backward in aten/src/ATen/native/mkldnn/Conv.cpp.

    Args:
        func: ATen operation.
        args: Its arguments.
    """
    if func is torch.ops.aten.convolution.default:
        images, weight = args[:2]
        read = [images, weight]
    elif func is torch.ops.aten.convolution_backward.default:
        gradient, images, weight = args[:3]
        # The gradient of the images does not depend on the images.
        read = [gradient, images, weight] if args[10][1] else [gradient, weight]
    else:
        return 0
    if images.dim() != 4:
        return 0
    layout = _memory_format(images, weight)
    return sum(tensor.nbytes for tensor in read if not tensor.is_contiguous(memory_format=layout))


def _backward(wanted: list[bool]) -> str:
    return BACKWARD if wanted[0] else BACKWARD_OF_WEIGHTS


def _pair(numbers: list[int]) -> tuple[int, int]:
    return (numbers[0], numbers[-1])


def _memory_format(images: Tensor, weight: Tensor) -> torch.memory_format:
    """Return the memory format of a convolution, as `cudnn_conv_suggest_memory_format` of ATen does."""
    suggested = suggest_memory_format(images), suggest_memory_format(weight)
    return torch.channels_last if torch.channels_last in suggested else torch.contiguous_format
