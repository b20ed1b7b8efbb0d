"""Shapes of an image along a chain of layers, computed without torch to report layers that don't fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convoy.config.faults import Fault, UserError
from convoy.config.image_size import ImageSize, Sides, sides_of
from convoy.models.notation.grammar import parse_layers
from convoy.models.notation.tokens import (
    Activation,
    Conv,
    Dense,
    GlobalAveragePool,
    Layer,
    LocalResponseNorm,
    Pair,
    Pool,
    Token,
)

Shape = tuple[int, ...]
"""(channels, height, width) of a feature map, or (units,) after the first FC; without the batch dimension."""

LARGEST_IMAGE_SIZE = 4096
"""Largest image size that is tested, in pixels."""

UNCOUNTED_CLASSES = 5040
"""Placeholder for an unknown number of classes: divisible by any small number of groups."""


@dataclass(frozen=True)
class Step:
    """Token with its input and output shapes."""

    token: Token
    inputs: Shape
    outputs: Shape


class _MisfitError(Exception):
    """Requirement of a layer that its input does not meet."""

    def __init__(self, rule: str, remedy: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.remedy = remedy


class _TooSmallError(_MisfitError):
    """Window larger than its input; a larger image would fit."""


def read_chain(
    layers: Any,
    *,
    num_classes: int | None,
    in_channels: int,
    image_size: ImageSize,
    activation: str = "relu",
    batch_norm: bool = False,
    pooling: str = "max",
) -> tuple[Step, ...]:
    """Return the steps of a network from images of a size to `num_classes` logits.

    Args:
        layers: list of texts from the config.
        num_classes: number of logits; None if not known yet, to check everything except the number of logits.
        in_channels: channels of an image.
        image_size: side of a square in pixels, or (height, width).
        activation: see `grammar.parse_layers`.
        batch_norm: see `grammar.parse_layers`.
        pooling: see `grammar.parse_layers`.

    Raises:
        UserError: if tokens are invalid (one fault per token), a layer does not fit its input (the first such layer),
            or the output does not have one logit per class.
    """
    tokens = parse_layers(
        layers,
        num_classes=num_classes or UNCOUNTED_CLASSES,
        activation=activation,
        batch_norm=batch_norm,
        pooling=pooling,
    )
    steps = walk(tokens, in_channels, image_size)
    last = steps[-1].outputs
    if num_classes is not None and last not in ((num_classes,), (num_classes, 1, 1)):
        remedy = "end it with GAP" if last[0] == num_classes else "end it with FC-{num_classes}"
        rule = f"ends with {_text(last)} outputs for {num_classes} classes"
        raise UserError(Fault("model.layers", rule, remedy))
    return steps


def walk(tokens: Sequence[Token], in_channels: int, image_size: ImageSize) -> tuple[Step, ...]:
    """Return the shapes along the chain.

    Raises:
        UserError: if a layer does not fit its input; the message names the smallest image size if the image is too
            small.
    """
    sides = sides_of(image_size)
    shape: Shape = (in_channels, *sides)
    steps = []
    for token in tokens:
        try:
            outputs = output_shape(token.layer, shape)
        except _MisfitError as misfit:
            remedy = misfit.remedy
            if isinstance(misfit, _TooSmallError):
                smallest = _smallest_image_size(tokens, in_channels, sides)
                if smallest:
                    remedy = f"data.image_size={smallest.text} is the smallest that works, or {remedy}"
            rule = f"{misfit.rule} (images of {in_channels}x{sides})"
            raise UserError(Fault(token.key, rule, remedy, token.text)) from misfit
        steps.append(Step(token, shape, outputs))
        shape = outputs
    return tuple(steps)


def output_shape(layer: Layer, shape: Shape) -> Shape:
    """Return the output shape of `layer` for an input of `shape`.

    With window F, padding P and stride S, height H becomes floor((H + 2P - F) / S) + 1, as in torch.
    """
    match layer:
        case Dense():
            return (layer.units,)
        case Activation():
            return (_maxout_channels(layer, shape[0]), *shape[1:])
        case Conv():
            _demand_feature_map(shape)
            filters = layer.filters * layer.activation.filters_per_unit
            if shape[0] % layer.groups or filters % layer.groups:
                rule = f"{layer.groups} groups don't divide {shape[0]} channels in and {filters} filters"
                raise _MisfitError(rule, "choose a number that divides both")
            return (layer.filters, *_windows(shape, layer.size, layer.stride, layer.padding))
        case Pool():
            _demand_feature_map(shape)
            return (shape[0], *_windows(shape, layer.size, layer.stride, layer.padding))
        case GlobalAveragePool():
            _demand_feature_map(shape)
            return (shape[0], 1, 1)
        case LocalResponseNorm():
            _demand_feature_map(shape)
    return shape


def _demand_feature_map(shape: Shape) -> None:
    if len(shape) != 3:
        raise _MisfitError(f"receives {shape[0]} units without height and width", "put it before the first FC")


def _maxout_channels(activation: Activation, channels: int) -> int:
    filters = activation.filters_per_unit
    if channels % filters:
        rule = f"takes {filters} channels per unit, which does not divide the {channels} channels of its input"
        raise _MisfitError(rule, f"give the layer before it a multiple of {filters}")
    return channels // filters


def _windows(shape: Shape, size: Pair, stride: Pair, padding: Pair) -> Pair:
    _, height, width = shape
    rows = (height + 2 * padding[0] - size[0]) // stride[0] + 1
    columns = (width + 2 * padding[1] - size[1]) // stride[1] + 1
    if rows < 1 or columns < 1:
        rule = f"its {_text(size)} window does not fit into its {_text(shape)} input"
        raise _TooSmallError(rule, "remove a pooling or a stride before it")
    return rows, columns


def _smallest_image_size(tokens: Sequence[Token], in_channels: int, above: Sides) -> Sides | None:
    """Return the smallest image size above `above` that every layer accepts; None if none is found.

    The sides that are too short are enlarged to one length.
    """
    for side in range(above.shorter + 1, LARGEST_IMAGE_SIZE + 1):
        image_size = Sides(max(above.height, side), max(above.width, side))
        shape: Shape = (in_channels, *image_size)
        try:
            for token in tokens:
                shape = output_shape(token.layer, shape)
        except _TooSmallError:
            continue
        except _MisfitError:
            return None
        return image_size
    return None


def _text(shape: Shape) -> str:
    return "x".join(str(side) for side in shape)
