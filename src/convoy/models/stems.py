"""Stem for small images. Networks for 224 pixels discard most of a 32-pixel image in their first layers."""

from __future__ import annotations

from torch import nn

from convoy.config.faults import Fault, UserError


def make_stem_small(network: nn.Module, name: str) -> tuple[str, ...]:
    """Set the stride of a network's first convolution to 1 and remove the max pooling after it.

    The first convolution is 3x3, as in the networks for CIFAR of He et al. 2015 (section 4.2). An existing 3x3
    convolution keeps its weights. Modules are searched in the order of their registration.

    Returns:
        Names of the new parameters.

    Raises:
        UserError: if the network does not begin with a convolution of stride 2 and an odd window.
    """
    layers = [item for item in network.named_modules() if isinstance(item[1], nn.Conv2d | nn.MaxPool2d)]
    path, first = layers[0] if layers else ("", None)
    if not isinstance(first, nn.Conv2d) or first.stride != (2, 2) or first.kernel_size[0] % 2 == 0:
        rule = f"{name} does not begin with a convolution of stride 2 and an odd window"
        raise UserError(Fault("model.stem", rule, "omit model.stem", "small"))
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
