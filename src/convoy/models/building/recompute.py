"""Activation checkpointing: activations inside a block are freed and recomputed in the backward pass.

Chen et al. 2016 (arXiv:1604.06174). A network stores the inputs of its blocks and, in the backward pass, the
activations of one block at a time. This saves memory at the cost of about one more forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from convoy.models.blocks import WORKING, is_block


def recompute_activations(network: nn.Module) -> int:
    """Make a network recompute its blocks in the backward pass. Names and weights don't change.

    Blocks are those of `is_block`, such as the bottlenecks of a ResNet; of nested blocks, the outermost. A Sequential
    of n single layers, such as those of VGG, is divided into about sqrt(n) parts.

    Args:
        network: network to change in place.

    Returns:
        Number of blocks and divided Sequentials; 0 if nothing was changed.
    """
    if isinstance(network, nn.Sequential) and _is_chain(network):
        network.__class__ = _recomputed_chain(type(network))  # type: ignore[arg-type]
        return 1
    count = 0
    for child in network.children():
        if is_block(network, child):
            child.__class__ = _recomputed_block(type(child))  # type: ignore[arg-type]
            count += 1
        else:
            count += recompute_activations(child)
    return count


def _is_chain(sequence: nn.Sequential) -> bool:
    return sum(isinstance(child, WORKING) for child in sequence) > 3


@cache
def _recomputed_block(kind: type[nn.Module]) -> type[nn.Module]:
    # A subclass instead of a function set on the object, so that a copy of the network works.
    class Recomputed(kind):  # type: ignore[valid-type,misc]
        def forward(self, *inputs: Any, **named: Any) -> Any:
            # The caller may extend the list before the recomputation, as a dense block does.
            own = [list(one) if isinstance(one, list) else one for one in inputs]
            return _recomputed(self, super().forward, *own, **named)

    Recomputed.__name__ = Recomputed.__qualname__ = kind.__name__
    return Recomputed


@cache
def _recomputed_chain(kind: type[nn.Sequential]) -> type[nn.Sequential]:
    class Recomputed(kind):  # type: ignore[valid-type,misc]
        def forward(self, input: Tensor) -> Tensor:
            for part in _parts(list(self)):
                input = _recomputed(part, _through, part, input)
            return input

    Recomputed.__name__ = Recomputed.__qualname__ = kind.__name__
    return Recomputed


def _parts(modules: list[nn.Module]) -> list[list[nn.Module]]:
    """Divide n convolutions and linear layers into about sqrt(n) parts.

    Each part begins with a convolution or linear layer: its input is stored, and an in-place ReLU would overwrite it.
    """
    starts = [index for index, module in enumerate(modules) if isinstance(module, WORKING)]
    step = round(math.sqrt(len(starts)))
    cuts = [0, *starts[step::step], len(modules)]
    return [modules[begin:end] for begin, end in pairwise(cuts)]


def _through(modules: list[nn.Module], maps: Tensor) -> Tensor:
    for module in modules:
        maps = module(maps)
    return maps


def _recomputed(owner: nn.Module | list[nn.Module], function: Any, *inputs: Any, **named: Any) -> Any:
    owners = [owner] if isinstance(owner, nn.Module) else owner
    if not torch.is_grad_enabled() or not any(module.training for module in owners):
        return function(*inputs, **named)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), without_statistics(owners)

    has_values = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is None
    return checkpoint(
        function, *inputs, use_reentrant=False, preserve_rng_state=has_values, context_fn=contexts, **named
    )


@contextmanager
def without_statistics(owners: list[nn.Module]) -> Iterator[None]:
    """Keep the running statistics of batch norms during another forward pass of the same images.

    The layers still run in training mode, since autograd must save the same tensors.
    """
    modules = [one for owner in owners for one in owner.modules()]
    norms = [one for one in modules if isinstance(one, _BatchNorm) and one.track_running_stats]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
