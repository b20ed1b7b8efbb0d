"""Stochastic depth: in training, residual branches are dropped at random per image (Huang et al. 2016)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from convoy.config.faults import Fault, UserError

if TYPE_CHECKING:
    from torch import nn

KEY = "model.stochastic_depth"


def stochastic_depth_faults(model: Mapping[str, Any]) -> list[Fault]:
    """Return the fault of `stochastic_depth` in a `model` group. Torch is not imported."""
    value = model.get("stochastic_depth", 0.0)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1:
        return []
    return [Fault(KEY, "must be at least 0 and below 1", "write the probability of the last block", str(value))]


def drop_branches(network: nn.Module, probability: float) -> None:
    """Drop the residual branches of a network in training.

    The probability rises linearly with depth, from probability / L in the first of L blocks to `probability` in the
    last (Huang et al. 2016, arXiv:1603.09382, equation 4). The branches that stay are divided by their probability, as
    torchvision does. Blocks are those of torchvision's and Convoy's residual networks.

    Args:
        network: network to change in place; the names of its parameters stay.
        probability: probability of the last block; 0 changes nothing.

    Raises:
        UserError: if the network has no such blocks.
    """
    if not probability:
        return
    from torchvision.ops import StochasticDepth

    branches = list(_branch_ends(network))
    if not branches:
        rule = "finds no residual blocks of torchvision's or Convoy's ResNets"
        remedy = "omit it; networks of timm take +model.drop_path_rate=…, ConvNeXt and EfficientNet of torchvision "
        raise UserError(Fault(KEY, rule, remedy + "+model.stochastic_depth_prob=…", f"{probability:g}"))
    for number, end in enumerate(branches, 1):
        # A hook that finds its module in the layer it is called for, so that copies of the network work.
        layer = StochasticDepth(probability * number / len(branches), "row").train(end.training)
        end.add_module("stochastic_depth", layer)
        end.register_forward_hook(_dropped)


def _dropped(module: Any, _: Any, branch: Any) -> Any:
    return module.stochastic_depth(branch)


def _branch_ends(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the last module of each residual branch."""
    from torchvision.models.resnet import BasicBlock, Bottleneck

    from convoy.models.preactivation import PreactivationBlock
    from convoy.models.residual import CifarBlock, PlainBlock

    for module in network.modules():
        is_plain = isinstance(module, PlainBlock) or getattr(module, "shortcut", module) is None
        if isinstance(module, PreactivationBlock):
            yield module.rest[-1]
        elif isinstance(module, Bottleneck):
            yield module.bn3
        elif isinstance(module, BasicBlock | CifarBlock) and not is_plain:
            yield module.bn2
