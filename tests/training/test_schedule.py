"""Rates per optimizer step of whole runs, against torch's schedulers run alone, also across a stop and a resume."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.conftest import TINY, Run, read_rows
from torch.optim import SGD, Optimizer
from torch.optim import lr_scheduler as torchs

from convoy.config.compose import compose, to_config
from convoy.training.schedule import Schedule

Convoy = Callable[..., Run]
PER_EPOCH = 7
STEPS = 42


def optimizer(rates: tuple[float, ...] = (0.4,)) -> SGD:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return SGD(groups, lr=1.0, momentum=0.9)


def option(*overrides: str) -> dict[str, Any]:
    return to_config(compose([*overrides, "model=resnet18"])).scheduler


def settings(trained: Optimizer) -> list[tuple[float, float]]:
    return [(group["lr"], group["momentum"]) for group in trained.param_groups]


def followed(
    node: dict[str, Any],
    stop: int | None = None,
    steps: int = STEPS,
    resumed_node: dict[str, Any] | None = None,
    first_length: int | None = None,
) -> list[list[tuple[float, float]]]:
    """Return rate and momentum of each step that the callback chooses; after `stop` steps it begins again from a
    checkpoint."""
    found = []
    trained, module = optimizer(), SimpleNamespace(latest={"val/top1": 0.5})
    trainer: Any = SimpleNamespace(optimizers=[trained], global_step=0, current_epoch=0)
    schedule = Schedule(node, first_length or steps, PER_EPOCH)
    schedule.on_fit_start(trainer, module)  # type: ignore[arg-type]
    schedule.on_train_start(trainer, module)  # type: ignore[arg-type]
    for step in range(steps):
        if step == stop:
            saved, groups = schedule.state_dict(), trained.state_dict()
            trained = optimizer()
            trainer.optimizers = [trained]
            schedule = Schedule(resumed_node or node, steps, PER_EPOCH)
            schedule.load_state_dict(saved)
            schedule.on_fit_start(trainer, module)  # type: ignore[arg-type]
            trained.load_state_dict(groups)
            schedule.on_train_start(trainer, module)  # type: ignore[arg-type]
        found.append(settings(trained))
        trained.step()
        for _ in range(2):  # two micro batches per step: the schedule moves once
            trainer.global_step = step + (_ == 1)
            schedule.on_train_batch_end(trainer, module, None, None, 0)  # type: ignore[arg-type]
        if (step + 1) % PER_EPOCH == 0:
            schedule.on_train_epoch_end(trainer, module)  # type: ignore[arg-type]
            trainer.current_epoch += 1
    return found


def expected(make: Callable[[SGD], Any], *, every: int = 1, steps: int = STEPS) -> list[list[tuple[float, float]]]:
    """Return the same of a scheduler of torch that is stepped alone."""
    found = []
    trained = optimizer()
    scheduler = make(trained)
    for step in range(steps):
        found.append(settings(trained))
        trained.step()
        if (step + 1) % every == 0:
            scheduler.step()
    return found


def warm_up(trained: SGD, steps: int) -> torchs.LinearLR:
    return torchs.LinearLR(trained, start_factor=1 / steps, total_iters=steps - 1)


def restarts(trained: SGD) -> Any:
    after = torchs.CosineAnnealingWarmRestarts(trained, T_0=10, T_mult=2, eta_min=0.04)
    return torchs.SequentialLR(trained, [warm_up(trained, 5), after], milestones=[5])


def polynomial(trained: SGD) -> Any:
    after = torchs.PolynomialLR(trained, total_iters=STEPS - 7, power=2.0)
    return torchs.SequentialLR(trained, [warm_up(trained, 7), after], milestones=[7])


CASES: dict[str, tuple[list[str], Callable[[SGD], Any]]] = {
    "one cycle": (
        ["scheduler=onecycle"],
        lambda trained: torchs.OneCycleLR(trained, max_lr=0.4, total_steps=STEPS),
    ),
    "polynomial": (["scheduler=polynomial"], polynomial),
    "warm restarts": (
        [
            "scheduler=cosine_restarts",
            f"scheduler.cycle_epochs={10 / PER_EPOCH}",
            "scheduler.cycle_growth=2",
            "scheduler.warmup_steps=5",
            "scheduler.warmup_epochs=0",
            "scheduler.final_fraction=0.1",
        ],
        restarts,
    ),
}


@pytest.mark.parametrize("stop", [None, 17])
@pytest.mark.parametrize("case", CASES)
def test_rates_are_torchs_at_each_step(case: str, stop: int | None) -> None:
    overrides, make = CASES[case]
    found = followed(option(*overrides), stop)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR's own calls
        theirs = expected(make)
    assert [pairs[0] for pairs in found] == [pytest.approx(pairs[0], abs=1e-9) for pairs in theirs]
    assert len({pair for pairs in found for pair in pairs}) > 20


@pytest.mark.parametrize("stop", [None, 3, 17])
def test_a_warm_up_multiplies_a_schedule_in_epochs(stop: int | None) -> None:
    """torch's ChainedScheduler multiplies two schedules; here one moves with steps and the other with epochs."""
    node = option("scheduler=multistep", "scheduler.milestones=[1,4]", "scheduler.warmup_epochs=1.5")
    found = [pairs[0][0] for pairs in followed(node, stop)]
    ramped = [pairs[0][0] / 0.4 for pairs in expected(lambda trained: warm_up(trained, 10))]
    stepped = [pairs[0][0] for pairs in expected(lambda trained: torchs.MultiStepLR(trained, [1, 4]), every=PER_EPOCH)]
    assert found == pytest.approx([one * other for one, other in zip(ramped, stepped, strict=True)])


def test_a_warm_up_leaves_a_plateau_schedule_its_rate() -> None:
    """The metric never improves after the first epoch, so that torch divides the rate after each later one."""
    node = option("scheduler=plateau", "scheduler.patience=0", "scheduler.warmup_steps=9")
    for stop in (None, 8):
        found = [pairs[0][0] for pairs in followed(node, stop)]
        assert found[:9] == pytest.approx([0.4 * (step + 1) / 9 for step in range(9)])
        assert found[9:14] == pytest.approx([0.4] * 5)
        assert found[14:28:7] == pytest.approx([0.04, 0.004])


@pytest.mark.parametrize("name", ["onecycle", "cosine", "multistep"])
def test_a_resumed_run_of_another_length_or_schedule_has_its_rates(name: str) -> None:
    node = option(f"scheduler={name}")
    whole = followed(node, steps=2 * STEPS)
    assert followed(node, stop=17, steps=2 * STEPS, first_length=STEPS)[17:] == whole[17:]
    other = followed(option("scheduler=linear"), stop=17, steps=2 * STEPS, resumed_node=node)
    assert other[17:] == whole[17:]


STOPPING = """
import os, signal
from pytorch_lightning import Callback

class StopAt(Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step and not os.path.exists("stopped"):
            open("stopped", "w").close()
            os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.slow
def test_a_stopped_run_with_one_cycle_of_momentum_ends_as_a_whole_one(convoy: Convoy) -> None:
    Path("stopping.py").write_text(STOPPING)
    words = (
        *TINY,
        "scheduler=onecycle",
        "trainer.micro_batch_size=64",
        "trainer.log_every_steps=1",
        "optimizer.lr=0.2",
    )
    stop = ("+callback.stop={_target_:stopping.StopAt,step:13}",)
    stopped = convoy("train", *words, *stop, folder="parts")
    assert stopped.code == 143, stopped.err
    assert convoy("train", "resume=parts").code == 0
    assert convoy("train", *words, *stop, folder="whole").code == 0
    assert read_rows(Path("parts")) == read_rows(Path("whole"))
    ends = [torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True) for name in ("parts", "whole")]
    assert all(torch.equal(ends[0]["state_dict"][key], value) for key, value in ends[1]["state_dict"].items())
    trained = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2, momentum=0.9)
    scheduler = torchs.OneCycleLR(trained, max_lr=0.2, total_steps=20)
    rates = []
    for _ in range(20):
        rates.append(trained.param_groups[0]["lr"])
        trained.step()
        scheduler.step()
    assert [float(row["lr"]) for row in read_rows(Path("whole")) if row["lr"]] == pytest.approx(rates, rel=1e-6)


def test_a_learning_rate_given_with_resume_is_used(convoy: Convoy) -> None:
    words = (*TINY, "trainer.log_every_steps=1", "scheduler=constant")
    assert convoy("train", *words, "trainer.max_epochs=1").code == 0
    assert convoy("train", "resume=run", "trainer.max_epochs=2", "optimizer.lr=0.0125").code == 0
    rates = [float(row["lr"]) for row in read_rows(Path("run")) if row["lr"]]
    assert len(set(rates[:10])) == 1
    assert rates[10:] == [0.0125] * 10


@pytest.mark.slow
def test_a_longer_run_keeps_the_counters_in_the_groups_of_an_optimizer(convoy: Convoy) -> None:
    assert convoy("train", *TINY, "optimizer=adan", "trainer.max_epochs=1").code == 0
    assert convoy("train", "resume=run", "trainer.max_epochs=2").code == 0
    state = torch.load("run/checkpoints/last.ckpt", weights_only=True)["optimizer_states"][0]
    assert [group["step"] for group in state["param_groups"]] == [20, 20]


def test_a_schedule_in_steps_is_not_moved_by_epochs(convoy: Convoy) -> None:
    for name in ("cosine", "onecycle"):
        refused = convoy("train", *TINY, f"scheduler={name}", "scheduler.interval=epoch")
        assert refused.code == 2
        assert "scheduler.interval=epoch: this schedule counts optimizer steps" in refused.err
