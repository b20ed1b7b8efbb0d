"""Densely connected networks for CIFAR."""

from __future__ import annotations

from torch import nn
from torchvision.models import DenseNet

from convoy.config.faults import Fault, UserError


def cifar_densenet(
    depth: int, growth: int, num_classes: int, in_channels: int = 3, memory_efficient: bool = False
) -> nn.Module:
    """Return DenseNet-BC for small images: Huang et al. 2016 (arXiv:1608.06993), section 3.

    After a 3x3 convolution with 2k filters come three dense blocks of (depth - 4) / 6 layers. Each layer is a 1x1
    convolution with 4k filters and a 3x3 one with k. Transitions between the blocks halve channels and resolution.
    The blocks are torchvision's. The network maps (N, in_channels, H, W) to logits (N, num_classes).

    Args:
        depth: 6n + 4, such as 100.
        growth: k, the channels added per layer.
        num_classes: number of logits.
        in_channels: channels of an image.
        memory_efficient: recompute the concatenations in the backward pass instead of storing them.

    Raises:
        UserError: if the depth is not 6n + 4.
    """
    if depth < 10 or (depth - 4) % 6:
        near = max(10, round((depth - 4) / 6) * 6 + 4)
        raise UserError(Fault("model.depth", "must be 6n + 4", f"write model.depth={near}", str(depth)))
    blocks = ((depth - 4) // 6,) * 3
    network: nn.Module = DenseNet(
        growth, blocks, num_init_features=2 * growth, num_classes=num_classes, memory_efficient=memory_efficient
    )
    first = nn.Conv2d(in_channels, 2 * growth, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(first.weight)
    network.set_submodule("features.conv0", first)
    # The networks for CIFAR have no norm, activation and pooling between the first convolution and the first block.
    for layer in ("norm0", "relu0", "pool0"):
        network.set_submodule(f"features.{layer}", nn.Identity())
    return network
