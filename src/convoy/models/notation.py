"""Layer notation: a chain of layers written as a table, one token per layer.

======================  =====================================================================================
``CONV3-64``            convolution, 3x3, 64 filters, stride 1, zero padding that keeps the spatial size
``CONV11-64/4 p2``      the same with stride 4 and padding 2; ``CONV3x1-64`` is 3 high and 1 wide
``LOCAL3-64``           locally connected: a convolution whose weights are not shared between places
``FC-4096``             fully connected, 4096 units
``POOL2``, ``POOL3/2``  max pooling, stride = size by default; ``AVGPOOL2`` average, ``L2POOL2`` L2 norm
``GAP``                 global average pooling
``BN``, ``LRN5``        batch norm; local response norm across 5 channels
``DROPOUT0.5``          dropout of half the units
``RELU``                an activation by itself; also LEAKYRELU0.1, ELU, SIGMOID, TANH, MAXOUT2
======================  =====================================================================================

Words may follow CONV, LOCAL and FC: ``nobias``, ``bn`` or ``nobn``, and an activation (relu, leakyrelu0.1,
elu, sigmoid, tanh, maxout2, or linear for none). CONV, LOCAL and the poolings also take ``p1`` (padding),
CONV also ``g2`` (groups). Maxout's number of filters comes on top: ``CONV3-64 maxout2`` computes 128 and gives
64. ``{num_classes}`` may stand for a number of filters or units. The last CONV, LOCAL or FC gives the logits:
it has no activation and no batch norm by default. The meaning of POOL for a whole network is set beside its
layers: ``pooling``: max, average or l2.

Here is what the tokens mean; `grammar` reads them, `shapes` follows an image through them, `chain` builds
them. The first three import no torch, so that a wrong token is answered at once.
"""

from __future__ import annotations

from dataclasses import dataclass

Pair = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Activation:
    """A nonlinearity; `amount` is leakyrelu's slope below zero, or maxout's number of filters to a unit."""

    kind: str
    amount: float = 0.0

    @property
    def filters_per_unit(self) -> int:
        return int(self.amount) if self.kind == "maxout" else 1


LINEAR = Activation("linear")


@dataclass(frozen=True)
class Conv:
    """A convolution, or a locally connected layer (not `shared`), with the norm and activation after it.

    Attributes:
        filters: channels that come out, after Maxout where there is one.
        padding: zeros on each side.
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
    """A fully connected layer with the norm and activation after it; `units` come out, after Maxout."""

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
    """The mean of each channel over all places."""


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
    """One entry of `model.layers`: its place in the list, its text and what it means."""

    index: int
    text: str
    layer: Layer

    @property
    def key(self) -> str:
        return f"model.layers[{self.index}]"
