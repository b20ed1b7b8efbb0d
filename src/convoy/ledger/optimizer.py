"""Memory of training that does not depend on the batch: parameters, gradients and the optimizer state."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from convoy.ledger.rows import State


def state_of(model: nn.Module, make: Callable[[nn.Module], Optimizer] | None) -> tuple[State, str]:
    """Return the state of a model and its optimizer in bytes, and the optimizer's name.

    Args:
        model: Network on any device. It is not changed.
        make: Function that builds the optimizer of a model; None if the model is not trained.
    """
    parameters = list(model.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    optimizer_bytes, name = (0, "") if make is None else _optimizer_state(model, make)
    state = State(
        trainable_params=sum(parameter.numel() for parameter in trained),
        param_bytes=sum(map(_size, parameters)),
        gradient_bytes=sum(map(_size, trained)) if make is not None else 0,
        optimizer_bytes=optimizer_bytes,
        buffer_bytes=sum(map(_size, model.buffers())),
    )
    return state, name


def _optimizer_state(model: nn.Module, make: Callable[[nn.Module], Optimizer]) -> tuple[int | None, str]:
    """Return the bytes of the optimizer state after one real step, run on the meta device."""
    memo: dict[int, object] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        memo[id(tensor)] = _without_memory(tensor)
    optimizer = make(copy.deepcopy(model, memo))
    name = type(optimizer).__name__
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.empty_like(parameter)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer.step()
    except Exception:  # an optimizer that reads the values of its gradients
        return None, name
    tensors = [leaf for leaf in tree_leaves(list(optimizer.state.values())) if isinstance(leaf, Tensor)]
    return sum(map(_size, tensors)), name


def _without_memory(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
