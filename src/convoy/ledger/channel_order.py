"""Tracking of the channel dimension of 4-D tensors, which torch does not record.

Images are (N, C, H, W). Layers that work on the last dimension receive (N, H, W, C) after a permute. The tensor keeps
this order through every operation that keeps its shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

_MARK = "_convoy_channels_last"
_TO_LAST, _TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
_CHANNELS_FIRST = frozenset({"convolution", "native_batch_norm", "max_pool2d_with_indices", "avg_pool2d"})
_RESHAPING = frozenset({"view", "_unsafe_view", "clone"})


def is_channels_last(tensor: Tensor) -> bool:
    """Return whether the tensor is known to be (N, H, W, C)."""
    return bool(getattr(tensor, _MARK, False))


def mark_channels_last(
    name: str, arguments: Sequence[Any], inputs: Sequence[Tensor], results: Sequence[Tensor]
) -> None:
    """Mark the results of an operation that are (N, H, W, C).

    Args:
        name: ATen operation, without namespace and overload.
        arguments: Positional arguments of the operation.
        inputs: Tensors among the arguments.
        results: Tensors that the operation returned.
    """
    for result in results:
        if result.ndim == 4 and name not in _CHANNELS_FIRST and _is_last(name, arguments, inputs, result):
            setattr(result, _MARK, True)


def _is_last(name: str, arguments: Sequence[Any], inputs: Sequence[Tensor], result: Tensor) -> bool:
    if name == "permute":
        order = list(arguments[1])
        return order == _TO_LAST if not is_channels_last(inputs[0]) else order != _TO_FIRST
    if name in _RESHAPING and inputs[0].ndim != 4:
        # Rows of features reshaped to a feature map: a linear layer works on (N H W, C).
        return inputs[0].shape[-1] == result.shape[-1]
    return any(is_channels_last(one) and one.shape[-1] == result.shape[-1] for one in inputs) or (
        name == "constant_pad_nd" and is_channels_last(inputs[0])
    )
