"""Layer notation: a chain of layers written as a table, one token per layer.

======================  =====================================================================================
``CONV3-64``            convolution, 3x3, 64 filters, stride 1, zero padding that keeps the spatial size
``CONV11-64/4 p2``      the same with stride 4 and padding 2; ``CONV3x1-64`` is 3 high and 1 wide
``LOCAL3-64``           locally connected: a convolution with separate weights for each position
``FC-4096``             fully connected, 4096 units
``POOL2``, ``POOL3/2``  max pooling, stride = size by default; ``AVGPOOL2`` average, ``L2POOL2`` L2 norm
``GAP``                 global average pooling
``BN``, ``LRN5``        batch norm; local response norm across 5 channels
``DROPOUT0.5``          dropout of half the units
``RELU``                an activation; also LEAKYRELU0.1, ELU, SIGMOID, TANH, MAXOUT2
======================  =====================================================================================

Words may follow CONV, LOCAL and FC: ``nobias``, ``bn`` or ``nobn``, and an activation (relu, leakyrelu0.1,
elu, sigmoid, tanh, maxout2, or linear for none). CONV, LOCAL and the poolings also take ``p1`` (padding),
CONV also ``g2`` (groups). The number of Maxout is multiplied with the filters: ``CONV3-64 maxout2`` computes 128
filters and returns 64 channels. ``{num_classes}`` can be used as the number of filters or units. The last CONV, LOCAL
or FC computes the logits: it has no activation and no batch norm by default. The key ``pooling`` of the network sets
the kind of POOL: max, average or l2.

This module defines the tokens; `grammar` parses them, `shapes` computes the shapes along the chain, and `chain` builds
the network. The first three don't import torch, so that a wrong token is reported without delay.
"""

from __future__ import annotations

from dataclasses import dataclass

Pair = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Activation:
    """Nonlinearity; `amount` is the slope of leakyrelu below zero, or the number of filters per unit of maxout."""

    kind: str
    amount: float = 0.0

    @property
    def filters_per_unit(self) -> int:
        return int(self.amount) if self.kind == "maxout" else 1


LINEAR = Activation("linear")


@dataclass(frozen=True)
class Conv:
    """Convolution, or locally connected layer if not `shared`, with the norm and activation after it.

    Attributes:
        filters: channels of the output, after Maxout if there is one.
        padding: zeros per side.
    """

    size: Pair
    filters: int
    stride: Pair
    padding: Pair
    groups: int
    bias: bool
    batch_norm: bool
    activation: Activation
    shared: bool


@dataclass(frozen=True)
class Dense:
    """Fully connected layer with the norm and activation after it; `units` counts the outputs after Maxout."""

    units: int
    bias: bool
    batch_norm: bool
    activation: Activation


@dataclass(frozen=True)
class Pool:
    """Pooling over a window; `kind` is POOL (max), AVGPOOL or L2POOL."""

    kind: str
    size: Pair
    stride: Pair
    padding: Pair


@dataclass(frozen=True)
class GlobalAveragePool:
    """Mean of each channel over all positions."""


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalization of each channel, or of each unit after FC."""


@dataclass(frozen=True)
class LocalResponseNorm:
    """Response normalization across `size` neighbouring channels."""

    size: int


@dataclass(frozen=True)
class Dropout:
    """Dropout of a share of the units."""

    share: float


Layer = Conv | Dense | Pool | GlobalAveragePool | BatchNorm | LocalResponseNorm | Dropout | Activation


@dataclass(frozen=True)
class Token:
    """Entry of `model.layers`: its index, its text and the parsed layer."""

    index: int
    text: str
    layer: Layer

    @property
    def key(self) -> str:
        return f"model.layers[{self.index}]"
