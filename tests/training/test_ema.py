"""The average of the weights, of networks whose batch norms count their batches too."""

from __future__ import annotations

import pytest
from torch import nn
from torch.optim.swa_utils import AveragedModel

from convoy.training.ema import _update


def test_counters_are_copied_and_other_state_is_averaged() -> None:
    network = nn.BatchNorm1d(2)
    averaged = AveragedModel(network, multi_avg_fn=_update(0.5), use_buffers=True)
    values = [1.0, 3.0, 7.0]
    for value in values:
        nn.init.constant_(network.weight, value)
        network.num_batches_tracked += 5
        averaged.update_parameters(network)
    assert int(averaged.module.num_batches_tracked) == 15
    # The first update copies; then the decay is (1 + t) / (10 + t), which is below 0.5.
    expected = values[0]
    for count, value in enumerate(values[1:], start=1):
        decay = (1 + count) / (10 + count)
        expected = decay * expected + (1 - decay) * value
    assert averaged.module.weight[0].item() == pytest.approx(expected)
