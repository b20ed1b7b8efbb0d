"""What a model's training holds whatever the batch: parameters, gradients, the optimizer's state."""

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
    """The state of a model and its optimizer in bytes, and the optimizer's name.

    Args:
        model: on any device; stays as it is.
        make: gives the optimizer of a model; None: nothing is trained.
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
    """Bytes of the state that a real step of the optimizer leaves, taken on the meta device."""
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
    except Exception:  # an optimizer that looks at the values of its gradients
        return None, name
    tensors = [leaf for leaf in tree_leaves(list(optimizer.state.values())) if isinstance(leaf, Tensor)]
    return sum(map(_size, tensors)), name


def _without_memory(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
