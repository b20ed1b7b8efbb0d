"""Blocks of a network, such as the bottlenecks of a ResNet, and the depth of its parameters counted in blocks."""

from __future__ import annotations

from torch import nn

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
WORKING = (nn.Conv2d, nn.Linear)
"""Layers with weights that a block counts."""


def is_block(parent: nn.Module, child: nn.Module) -> bool:
    """Return whether a module is a block.

    A block is a member of a Sequential, ModuleList or ModuleDict with at least two convolutions or linear layers.
    """
    is_member = isinstance(parent, _CONTAINERS) and not isinstance(child, _CONTAINERS)
    return is_member and sum(isinstance(one, WORKING) for one in child.modules()) > 1


def _is_stage(module: nn.Module) -> bool:
    """Return whether a module consists of several blocks, such as a stage of ConvNeXt."""
    return any(sum(is_block(one, child) for child in one.children()) > 1 for one in module.modules())


def depths(network: nn.Module) -> dict[str, int]:
    """Return the depth of each parameter, from 0, in the order in which modules are registered.

    A block and a layer with weights outside of blocks are one step deeper than what is registered before them. A norm
    has the depth of the layer or block before it.
    """
    found: dict[str, int] = {}

    def visit(module: nn.Module, path: str, depth: int) -> int:
        """Enter the parameters of a module into `found` and return the depth reached; -1 before the first layer."""
        own = dict(module.named_parameters(prefix=path, recurse=False))
        if any(parameter.ndim > 1 for parameter in own.values()):
            depth += 1
        found.update(dict.fromkeys(own, max(0, depth)))
        for name, child in module.named_children():
            inner = f"{path}.{name}" if path else name
            if is_block(module, child) and not _is_stage(child):
                depth += 1
                found.update(dict.fromkeys((key for key, _ in child.named_parameters(prefix=inner)), depth))
            else:
                depth = visit(child, inner, depth)
        return depth

    visit(network, "", -1)
    return found
