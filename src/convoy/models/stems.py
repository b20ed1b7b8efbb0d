"""Stem for small images: networks for 224 pixels discard most of a 32-pixel image in their first layers."""

from __future__ import annotations

from torch import nn

from convoy.config.faults import Fault, UserError


def make_stem_small(network: nn.Module, name: str) -> tuple[str, ...]:
    """Let a network's first convolution keep the resolution, and leave out the max pooling that follows it.

    As He et al. 2015 begin their networks for CIFAR (section 4.2): a convolution of 3x3 with stride 1. Where the
    window is 3x3 already, its weights stay. Modules count in the order in which they were registered.

    Returns:
        The names of the parameters that are new.

    Raises:
        UserError: the network does not begin with a convolution of stride 2 and an odd window.
    """
    layers = [item for item in network.named_modules() if isinstance(item[1], nn.Conv2d | nn.MaxPool2d)]
    path, first = layers[0] if layers else ("", None)
    if not isinstance(first, nn.Conv2d) or first.stride != (2, 2) or first.kernel_size[0] % 2 == 0:
        rule = f"{name} does not begin with a convolution of stride 2 and an odd window"
        raise UserError(Fault("model.stem", rule, "leave it out", "small"))
    after, second = layers[1]
    if isinstance(second, nn.MaxPool2d):
        network.set_submodule(after, nn.Identity())
    if first.kernel_size == (3, 3):
        first.stride = first.padding = (1, 1)
        return ()
    small = nn.Conv2d(first.in_channels, first.out_channels, 3, padding=1, bias=first.bias is not None)
    nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
    if small.bias is not None:
        nn.init.zeros_(small.bias)
    network.set_submodule(path, small)
    return tuple(f"{path}.{parameter}" for parameter, _ in small.named_parameters())
