"""Auxiliary classifiers: their losses in training, and nothing of them anywhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.conftest import Run
from torch import Tensor, nn
from torch.nn import functional

from convoy.config.faults import UserError
from convoy.data.batches.collate import Batch
from convoy.data.targets import Targets
from convoy.models.building.build import build_model, check_model
from convoy.tasks.construction import build_task
from convoy.training.lightning_module import TrainingModule
from convoy.training.preflight import read


class Sided(nn.Module):
    """Gives fixed logits, and in training two more."""

    def __init__(self, sides: tuple[Tensor | None, ...]) -> None:
        super().__init__()
        self.main = nn.Parameter(torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
        self.sides = sides

    def forward(self, images: Tensor) -> Any:
        return (self.main, *self.sides) if self.training else self.main


class Still(TrainingModule):
    """Outside a run, where there is no trainer to ask for the step."""

    class _Trainer:
        global_step = 0

    @property
    def trainer(self) -> Any:
        return self._Trainer()


def loss_of(network: nn.Module, *overrides: str) -> Tensor:
    config = read([*overrides, "logger=csv"])
    module = Still(network, config, build_task(config, Targets("class_index", ("a", "b"))))
    return module.training_step(Batch(torch.zeros(2, 1, 4, 4), torch.tensor([0, 1])), 0)


@pytest.mark.parametrize(("model", "weight"), [("googlenet", 0.3), ("inception_v3", 0.4), ("lenet5", 0.3)])
def test_auxiliary_losses_are_added_with_the_models_weight(model: str, weight: float) -> None:
    sides = (torch.tensor([[0.0, 2.0], [1.0, 1.0]]), None, torch.tensor([[0.5, 0.0], [0.0, 0.5]]))
    labels = torch.tensor([0, 1])
    network = Sided(sides).train()
    expected = functional.cross_entropy(network.main, labels) + weight * (
        functional.cross_entropy(sides[0], labels) + functional.cross_entropy(sides[2], labels)
    )
    assert loss_of(network, f"model={model}").item() == pytest.approx(expected.item())
    alone = functional.cross_entropy(network.main, labels)
    assert loss_of(Sided(()).train(), f"model={model}").item() == pytest.approx(alone.item())


def test_label_smoothing_applies_to_auxiliary_losses() -> None:
    side, labels = torch.tensor([[0.0, 2.0], [1.0, 1.0]]), torch.tensor([0, 1])
    network = Sided((side,)).train()
    smoothed = [functional.cross_entropy(logits, labels, label_smoothing=0.1) for logits in (network.main, side)]
    loss = loss_of(network, "model=googlenet", "loss.label_smoothing=0.1", "model.auxiliary_weight=2")
    assert loss.item() == pytest.approx((smoothed[0] + 2 * smoothed[1]).item())


@pytest.mark.parametrize("weight", ["-0.1", "null", "yes"])
def test_a_weight_that_is_none_is_refused(weight: str) -> None:
    with pytest.raises(UserError, match=r"model\.auxiliary_weight"):
        read(["model=googlenet", f"model.auxiliary_weight={weight}", "logger=csv"])


@pytest.mark.slow
def test_googlenet_trains_with_its_auxiliary_classifiers_and_answers_without(convoy: Callable[..., Run]) -> None:
    done = convoy(
        "train",
        "model=googlenet",
        "logger=csv",
        "trainer.gpus=0",
        "hardware.cpu_threads=1",
        "trainer.max_epochs=null",
        "trainer.max_steps=2",
        "trainer.global_batch_size=4",
        "trainer.eval_batch_size=64",
        "data.val_fraction=0.02",
        "trainer.log_every_steps=1",
    )
    assert done.code == 0, done.err
    state = done.checkpoint()["state_dict"]
    assert any(name.startswith("network.aux1.") for name in state)
    # Three losses of about log 10, of which two count 0.3.
    assert float(done.rows()[0]["train/loss"]) > 1.3 * 2.0
    ledger = (done.folder / "ledger.csv").read_text()
    assert "aux1.fc2" in ledger
    assert "aux2.fc2" in ledger


def test_a_switch_leaves_the_auxiliary_classifiers_out() -> None:
    option = read(["model=googlenet", "model.aux_logits=false", "logger=csv"]).model
    assert check_model(option, num_classes=10, in_channels=1, image_size=32) == []
    with torch.device("meta"):
        network = build_model(option, num_classes=10, in_channels=1, image_size=32)
    assert not [name for name, _ in network.named_parameters() if name.startswith("aux")]
