"""Multiply-accumulate operations (MACs) of an ATen operation, from its shapes. 1 MAC = 2 FLOPs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

Macs = tuple[int, int]
"""MACs of the forward operation, and of its backward operations."""

NONE: Macs = (0, 0)


def macs_of(name: str, arguments: Sequence[Any], outputs: Sequence[Tensor]) -> Macs:
    """Return the MACs of an operation; (0, 0) for one that is not a matrix product.

    In the backward pass, each factor of a product that needs a gradient costs one more product of the same size. For a
    convolution y = w * x, these are dL/dx = w * dL/dy and dL/dw = x * dL/dy.

    Args:
        name: ATen operation, without namespace and overload ("convolution").
        arguments: Positional arguments of the operation.
        outputs: Tensors that the operation returned.

    Returns:
        MACs of the forward and of the backward pass.
    """
    rule = _RULES.get(name)
    if rule is None:
        return NONE
    count, factors = rule(arguments, outputs[0])
    return count, count * sum(factor.requires_grad for factor in factors)


_Product = tuple[int, Sequence[Tensor]]


def _convolution(arguments: Sequence[Any], output: Tensor) -> _Product:
    """Count a filter per output element; for a transposed convolution, a filter per input element."""
    image, weight, transposed = arguments[0], arguments[1], bool(arguments[6])
    places = image if transposed else output
    return places.numel() * math.prod(weight.shape[1:]), (image, weight)


def _matrices(left: int) -> Callable[[Sequence[Any], Tensor], _Product]:
    """Return the rule for a product of (batches of) matrices; `left` is the index of the first factor."""

    def count(arguments: Sequence[Any], _: Tensor) -> _Product:
        first, second = arguments[left], arguments[left + 1]
        return first.numel() * second.shape[-1], (first, second)

    return count


def _attention(arguments: Sequence[Any], _: Tensor) -> _Product:
    """Count queries x keys and weights x values: (..., L, E) x (..., S, E) and (..., L, S) x (..., S, V)."""
    query, key, value = arguments[:3]
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    # Two products with two factors each have four backward products, like one product with factors query and key.
    return scores * (query.shape[-1] + value.shape[-1]), (query, key)


_RULES: dict[str, Callable[[Sequence[Any], Tensor], _Product]] = {
    "convolution": _convolution,
    "_convolution": _convolution,
    "mm": _matrices(0),
    "bmm": _matrices(0),
    "addmm": _matrices(1),
    "baddbmm": _matrices(1),
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
}
