"""Models without their weights: built on the meta device, and copied as fake tensors."""

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
    """The model that `build` makes, on the meta device, where tensors have a shape and no memory.

    A constructor that looks at the values of its tensors can't be run there: it is run on the CPU, where what
    `torch.nn.init` would fill is left as the system gives it, which costs no memory before it is touched.

    Raises:
        Exception: whatever the constructor raises on the CPU.
    """
    # torch 2.7 and its torchvision import more of torch when they are first used, which fails under torch.device.
    FakeTensorMode()
    try:
        with torch.device("meta"):
            return build()
    except Exception:  # whatever a library does with values that aren't there
        with _NoInitialValues():
            return build()


class _NoInitialValues(TorchFunctionMode):
    """Functions of torch.nn.init give their tensor back as it is."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def without_torchs_tracebacks() -> Iterator[None]:
    """While it lasts, torch logs no traceback of an operation that fake tensors refuse: the error itself is raised."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was_disabled


def fake_copy(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """A copy of a model whose tensors are fake: on the CPU by their own account, and without memory.

    The model itself, on whatever device, is left as it is. Parameters that are one stay one.
    """
    memo: dict[int, Any] = {}
    with mode:
        for tensor in _tensors(model):
            if id(tensor) not in memo:
                memo[id(tensor)] = _fake(tensor)
    return copy.deepcopy(model, memo)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and tensors that modules hold as plain attributes."""
    for module in model.modules():
        for value in vars(module).values():
            yield from (leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))


def _fake(tensor: Tensor) -> Tensor:
    strides = tensor.stride()
    empty = torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device="cpu")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty
