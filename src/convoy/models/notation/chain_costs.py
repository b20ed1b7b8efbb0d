"""Parameters and MACs of a chain of layers, computed from its tokens without building the network."""

from __future__ import annotations

import math
from collections.abc import Sequence

from convoy.models.notation.shapes import Step
from convoy.models.notation.tokens import BatchNorm, Conv, Dense


def chain_costs(steps: Sequence[Step]) -> dict[str, int]:
    """Return the parameters of a chain and its MACs per image, equal to those of its ledger.

    A convolution has C/g F_h F_w weights per filter and as many MACs per output element; a locally connected layer has
    the same MACs and separate weights for each position. Norms, activations and poolings have no MACs.

    Args:
        steps: tokens with their shapes (see `shapes.read_chain`).
    """
    params = macs = 0
    for step in steps:
        layer = step.token.layer
        if isinstance(layer, BatchNorm):
            params += 2 * step.inputs[0]
        if not isinstance(layer, Conv | Dense):
            continue
        if isinstance(layer, Conv):
            width = layer.filters * layer.activation.filters_per_unit
            fan_in = step.inputs[0] // layer.groups * math.prod(layer.size)
            places = math.prod(step.outputs[1:])
            copies = 1 if layer.shared else places
        else:
            width, fan_in = layer.units * layer.activation.filters_per_unit, math.prod(step.inputs)
            places = copies = 1
        params += copies * width * (fan_in + layer.bias) + 2 * width * layer.batch_norm
        macs += places * width * fan_in
    return {"params": params, "macs": macs}
