"""Network built from a list of layer tokens (see `convoy.models.notation`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convoy.config.image_size import ImageSize
from convoy.models.layers import L2Pool2d, LocallyConnected2d, Maxout
from convoy.models.notation.shapes import Step, read_chain
from convoy.models.notation.tokens import (
    LINEAR,
    Activation,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    GlobalAveragePool,
    LocalResponseNorm,
    Pool,
)


class Chain(nn.Module):
    """Sequential network written in the layer notation.

    Its modules are in two `nn.Sequential`s: `features`, and `classifier` from the first FC (with a dropout directly
    before it) to the end. They are numbered as in torchvision's networks, so that VGG and AlexNet load torchvision's
    state dicts unchanged at 224x224 pixels. There is no adaptive pooling: FC flattens its input.

    The network maps images (N, in_channels, H, W) to logits (N, num_classes).

    Args:
        layers: the tokens.
        num_classes: value of `{num_classes}` in a token.
        in_channels: channels of an image.
        image_size: side of a square in pixels, or (height, width).
        activation: default activation after CONV, LOCAL and FC; the last layer with weights has none.
        batch_norm: if True, CONV and LOCAL have batch norm before their activation by default.
        pooling: kind of POOL: max, average or l2.

    Attributes:
        tokens: token of each module that computes a layer, such as "CONV3-64" for "features.0".

    Raises:
        UserError: if a token is invalid, or a layer does not fit its input.
    """

    def __init__(
        self,
        layers: Sequence[str],
        num_classes: int,
        in_channels: int,
        image_size: ImageSize,
        activation: str = "relu",
        batch_norm: bool = False,
        pooling: str = "max",
    ) -> None:
        super().__init__()
        steps = read_chain(
            layers,
            num_classes=num_classes,
            in_channels=in_channels,
            image_size=image_size,
            activation=activation,
            batch_norm=batch_norm,
            pooling=pooling,
        )
        self.features = nn.Sequential()
        self.classifier = nn.Sequential()
        self.tokens: dict[str, str] = {}
        start = _classifier_start(steps)
        for index, step in enumerate(steps):
            part = "features" if index < start else "classifier"
            sequence = getattr(self, part)
            for module in _modules(step):
                self.tokens[f"{part}.{len(sequence)}"] = step.token.text
                sequence.append(module)
                _initialize(module, _activation_after(steps, index), _share_kept_before(steps, index))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(torch.flatten(self.features(images), 1))
        return logits


def _classifier_start(steps: Sequence[Step]) -> int:
    """Return the index of the first FC or of the dropout directly before it; past the end without an FC."""
    for index, step in enumerate(steps):
        if isinstance(step.token.layer, Dense):
            follows_dropout = index > 0 and isinstance(steps[index - 1].token.layer, Dropout)
            return index - 1 if follows_dropout else index
    return len(steps)


def _modules(step: Step) -> list[nn.Module]:
    """Return the modules of a token, in order."""
    layer, inputs = step.token.layer, step.inputs
    match layer:
        case Conv():
            width = layer.filters * layer.activation.filters_per_unit
            norm: list[nn.Module] = [nn.BatchNorm2d(width)] if layer.batch_norm else []
            return [_convolution(layer, inputs, width), *norm, *_activation(layer.activation, inplace=True)]
        case Dense():
            width = layer.units * layer.activation.filters_per_unit
            norm = [nn.BatchNorm1d(width)] if layer.batch_norm else []
            weighted = nn.Linear(math.prod(inputs), width, bias=layer.bias)
            return [weighted, *norm, *_activation(layer.activation, inplace=True)]
        case Pool():
            return [_pool(layer)]
        case GlobalAveragePool():
            return [nn.AdaptiveAvgPool2d(1)]
        case BatchNorm():
            return [nn.BatchNorm2d(inputs[0]) if len(inputs) == 3 else nn.BatchNorm1d(inputs[0])]
        case LocalResponseNorm():
            # Krizhevsky et al. 2012, section 3.3: n = 5, k = 2, beta = 0.75, and alpha = 1e-4 times the sum of
            # squares, where torch first divides its alpha by the size.
            return [nn.LocalResponseNorm(layer.size, alpha=1e-4 * layer.size, beta=0.75, k=2.0)]
        case Dropout():
            return [nn.Dropout(layer.share)]
        case Activation():
            # Not in place: the preceding layer may need its output for the backward pass.
            return _activation(layer, inplace=False)


def _convolution(layer: Conv, inputs: Sequence[int], filters: int) -> nn.Module:
    channels, height, width = inputs
    if not layer.shared:
        return LocallyConnected2d(
            channels, filters, layer.size, (height, width), layer.stride, layer.padding, bias=layer.bias
        )
    return nn.Conv2d(channels, filters, layer.size, layer.stride, layer.padding, groups=layer.groups, bias=layer.bias)


def _pool(layer: Pool) -> nn.Module:
    kinds: dict[str, Any] = {"POOL": nn.MaxPool2d, "AVGPOOL": nn.AvgPool2d, "L2POOL": L2Pool2d}
    module: nn.Module = kinds[layer.kind](layer.size, layer.stride, layer.padding)
    return module


def _activation(activation: Activation, *, inplace: bool) -> list[nn.Module]:
    match activation.kind:
        case "linear":
            return []
        case "relu":
            return [nn.ReLU(inplace)]
        case "leakyrelu":
            return [nn.LeakyReLU(activation.amount, inplace)]
        case "elu":
            return [nn.ELU(inplace=inplace)]
        case "maxout":
            return [Maxout(activation.filters_per_unit)]
    return [nn.Sigmoid() if activation.kind == "sigmoid" else nn.Tanh()]


def _activation_after(steps: Sequence[Step], index: int) -> Activation:
    """Return the activation between a layer and the next weights: the layer's, or that of a following token."""
    layer = steps[index].token.layer
    if isinstance(layer, Conv | Dense) and layer.activation != LINEAR:
        return layer.activation
    for step in steps[index + 1 :]:
        if isinstance(step.token.layer, Activation):
            return step.token.layer
        if isinstance(step.token.layer, Conv | Dense):
            break
    return LINEAR


def _share_kept_before(steps: Sequence[Step], index: int) -> float:
    """Return the share of a layer's inputs kept by a dropout directly before it."""
    before = steps[index - 1].token.layer if index else None
    return 1 - before.share if isinstance(before, Dropout) else 1.0


def _initialize(module: nn.Module, activation: Activation, share_kept: float) -> None:
    """Initialize a layer so that the second moment of its outputs in training equals that of its inputs.

    He et al. 2015: std = gain / sqrt(fan_in), with gain^2 = 2 / (1 + slope^2) for (leaky) ReLU, and 2 for ELU.
    The gain is 1 without an activation, and for Maxout: for independent normal a and b, the mean of
    max(a, b)^2 is their variance. Glorot & Bengio 2010 for tanh and sigmoid:
    std = sqrt(2 / (fan_in + fan_out)). Dropout multiplies the values it keeps, and thereby the second moment, by
    1 / share_kept, so the variance of the weights after it is multiplied by share_kept. Biases are zero.
    """
    if isinstance(module, LocallyConnected2d):
        fan_in, fan_out = module.weight.shape[1], module.out_channels * math.prod(module.kernel_size)
    elif isinstance(module, nn.Conv2d | nn.Linear):
        fan_in = module.weight[0].numel()
        fan_out = module.weight.shape[0] * math.prod(module.weight.shape[2:])
    else:
        return
    gains = {"relu": 2.0, "elu": 2.0, "leakyrelu": 2 / (1 + activation.amount**2)}
    if activation.kind in ("tanh", "sigmoid"):
        std = math.sqrt(2 / (fan_in + fan_out))
    else:
        std = math.sqrt(gains.get(activation.kind, 1.0) / fan_in)
    nn.init.normal_(module.weight, std=std * math.sqrt(share_kept))
    if module.bias is not None:
        nn.init.zeros_(module.bias)
