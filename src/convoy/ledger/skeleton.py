"""Models without weights: on the meta device, or as a copy with fake tensors."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


def without_weights(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a model on the meta device, where tensors have a shape and no memory.

    A constructor that reads tensor values can't run on the meta device. It then runs on the CPU, with the functions of
    `torch.nn.init` disabled: memory that is never written costs nothing.

    Args:
        build: Function that returns the model.

    Raises:
        Exception: Any error of the constructor on the CPU.
    """
    # On first use, torch 2.7 and its torchvision import more modules of torch, which fails under torch.device.
    FakeTensorMode()
    try:
        with torch.device("meta"):
            return build()
    except Exception:  # a library may fail in any way if tensors have no values
        with _NoInitialValues():
            return build()


class _NoInitialValues(TorchFunctionMode):
    """Function mode in which `torch.nn.init` leaves tensors unchanged."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def without_torchs_tracebacks() -> Iterator[None]:
    """Suppress the traceback that torch logs for an operation that fake tensors do not support; the error is raised."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was_disabled


def fake_copy(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """Return a copy of a model with fake tensors, which report the CPU as their device and have no memory.

    The model is not changed and may be on any device. Shared parameters stay shared.
    """
    memo: dict[int, Any] = {}
    with mode:
        for tensor in _tensors(model):
            if id(tensor) not in memo:
                memo[id(tensor)] = _fake(tensor)
    return copy.deepcopy(model, memo)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """Yield parameters, buffers, and tensors that are plain attributes of modules."""
    for module in model.modules():
        for value in vars(module).values():
            yield from (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))


def _fake(tensor: Tensor) -> Tensor:
    strides = tensor.stride()
    empty = torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device="cpu")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty
