"""The average of the weights, of networks whose batch norms count their batches too."""

from __future__ import annotations

import pytest
import torch
from tests.scalar_reads import ScalarReads
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from convoy.training.ema import AveragedWeights


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3).to(torch.float64))


def change(model: nn.Module) -> None:
    for tensor in model.state_dict().values():
        tensor.add_(torch.randn_like(tensor) if tensor.is_floating_point() else 5)


def torchs_average(model: nn.Module, decay: float) -> AveragedModel:
    """Return torch's average with the same decays."""

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], num_averaged: Tensor | int) -> None:
        count = int(num_averaged)
        for average, tensor in zip(averaged, current, strict=True):
            if average.is_floating_point():
                average.lerp_(tensor, 1 - min(decay, (1 + count) / (10 + count)))
            else:
                average.copy_(tensor)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def test_counters_are_copied_and_other_state_is_averaged() -> None:
    norm = nn.BatchNorm1d(2)
    averaged = AveragedWeights(norm, 0.5)
    values = [1.0, 3.0, 7.0]
    for value in values:
        nn.init.constant_(norm.weight, value)
        norm.num_batches_tracked += 5
        averaged.update_parameters(norm)
    assert int(averaged.module.num_batches_tracked) == 15
    # The first update copies; then the decay is (1 + t) / (10 + t), which is below 0.5.
    expected = values[0]
    for count, value in enumerate(values[1:], start=1):
        decay = (1 + count) / (10 + count)
        expected = decay * expected + (1 - decay) * value
    assert averaged.module.weight[0].item() == pytest.approx(expected)


def test_the_average_is_torchs_and_resumes_from_its_state() -> None:
    model = network()
    ours, theirs = AveragedWeights(model, 0.3), torchs_average(model, 0.3)
    for _ in range(6):
        change(model)
        ours.update_parameters(model)
        theirs.update_parameters(model)
    resumed = AveragedWeights(network(), 0.3)
    resumed.load_state_dict(theirs.state_dict())
    change(model)
    for average in (ours, theirs, resumed):
        average.update_parameters(model)
    expected = theirs.state_dict()
    assert int(expected["n_averaged"]) == 7
    for average in (ours, resumed):
        state = average.state_dict()
        assert list(state) == list(expected)
        assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_an_update_reads_no_number_from_the_device() -> None:
    model = network()
    averaged = AveragedWeights(model, 0.9)
    with ScalarReads() as reads:
        for _ in range(3):
            averaged.update_parameters(model)
    assert reads.count == 0
