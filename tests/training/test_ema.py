"""The average of the weights, of networks whose batch norms count their batches too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, Run
from tests.scalar_reads import ScalarReads
from tests.training.test_schedule import STOPPING
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


@pytest.mark.slow
def test_stochastic_weight_averaging_is_the_mean_of_the_weights_after_epochs(convoy: Callable[..., Run]) -> None:
    """The weights after each epoch are those of the same run without averaging, which keeps all checkpoints."""
    norms = [word.replace("CONV3-8", "'CONV3-8 bn'") for word in TINY]
    words = (*norms, "trainer.max_epochs=4", "trainer.test=false")
    raw = convoy("train", *words, "checkpoint.save_top_k=9", folder="raw")
    assert raw.code == 0, raw.err
    steps = [raw.folder / "checkpoints" / f"step-{step}.ckpt" for step in (20, 30, 40)]
    states = [torch.load(path, weights_only=True)["state_dict"] for path in steps]
    averaged = convoy("train", *words, "trainer.swa_start_epoch=1", folder="averaged")
    assert averaged.code == 0, averaged.err
    content = averaged.checkpoint()
    for name, value in content["state_dict"].items():
        if value.is_floating_point():
            torch.testing.assert_close(value, torch.stack([state[name] for state in states]).mean(0))
            assert torch.equal(content["current_model_state"][name], states[2][name])
    rows = [row["val/loss"] for row in averaged.rows() if row["val/loss"]]
    assert rows[:2] == [row["val/loss"] for row in raw.rows() if row["val/loss"]][:2]
    # The run stopped in the third epoch: its state is that of the average after the second.
    Path("stopping.py").write_text(STOPPING)
    stop = ("+callback.stop={_target_:stopping.StopAt,step:23}", "trainer.swa_start_epoch=1")
    assert convoy("train", *words, *stop, folder="parts").code == 143
    assert convoy("train", "resume=parts").code == 0
    parts = torch.load("parts/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, parts[name]) for name, value in content["state_dict"].items())


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trainer.swa_start_epoch=2", "trainer.swa_start_epoch=2: must be below trainer.max_epochs=2; write 1"),
        ("trainer.ema_decay=0.9", "can't be combined with trainer.ema_decay"),
        (
            "+callback.swa={_target_:pytorch_lightning.callbacks.StochasticWeightAveraging,swa_lrs:0.01}",
            "write trainer.swa_start_epoch=… instead",
        ),
    ],
)
def test_averages_that_can_not_be_computed_are_refused(word: str, message: str, convoy: Callable[..., Run]) -> None:
    refused = convoy("train", *TINY, "trainer.swa_start_epoch=1", word)
    assert refused.code == 2
    assert message in refused.err
