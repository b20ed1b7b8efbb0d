"""Optimizers and schedules of the user's own: built, and refused before a run's folder is created."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from convoy.config.faults import UserError
from convoy.config.options import Options
from convoy.optim.build_optimizer import build_optimizer, build_scheduler, check_targets, try_targets
from convoy.training.preflight import read

SOURCE = """
import torch

class SignSGD(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(group["lr"] * parameter.grad.sign())
        return loss

class Halving(torch.optim.lr_scheduler.LRScheduler):
    def __init__(self, optimizer, total_steps, every):
        self.total_steps, self.every = total_steps, every
        super().__init__(optimizer)

    def get_lr(self):
        return [rate * 0.5 ** (self.last_epoch // self.every) for rate in self.base_lrs]

def nothing(*_, **__):
    return 3

def broken(params, lr):
    raise KeyError("momentum")
"""


@pytest.fixture
def module(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    name = f"steps_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    return name


def test_both_are_built_and_step(module: str) -> None:
    for group, name, keys in (
        ("optimizer", "SignSGD", "lr: 0.1"),
        ("scheduler", "Halving", "every: 2\ninterval: step"),
    ):
        folder = Path("options") / group
        folder.mkdir(parents=True)
        (folder / "mine.yaml").write_text(f"_target_: {module}.{name}\n{keys}\n")
    config = read(["optimizer=mine", "scheduler=mine", "trainer.gpus=0"], Options(Path("options").absolute()))
    check_targets(config)
    layer = torch.nn.Linear(2, 1, bias=False)
    optimizer = build_optimizer(config.optimizer, layer)
    scheduler = build_scheduler(config.scheduler, optimizer, total_steps=8, steps_per_epoch=4)
    assert scheduler.total_steps == 8
    rates = []
    for _ in range(5):
        before = layer.weight.detach().clone()
        layer(torch.tensor([[1.0, -1.0]])).sum().backward()
        optimizer.step()
        rates.append((before - layer.weight.detach())[0, 0].item())
        scheduler.step()
        optimizer.zero_grad()
    assert rates == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025])


@pytest.mark.parametrize(
    ("group", "name", "message"),
    [
        ("optimizer", "nothing", "builds an object of type int, not a torch.optim.Optimizer"),
        ("optimizer", "broken", "KeyError: 'momentum'; steps_"),
        ("optimizer", "SignSDG", "has no SignSDG; did you mean SignSGD?"),
        ("scheduler", "nothing", "builds an object of type int, not a torch.optim.lr_scheduler.LRScheduler"),
        ("scheduler", "Halving", "needs it; write +scheduler.every="),
    ],
)
def test_mistakes_are_reported_before_a_run_begins(
    module: str, group: str, name: str, message: str, convoy: Callable[..., Any]
) -> None:
    (Path("options") / group).mkdir(parents=True)
    keys = "lr: 0.1\ndecay_norms_and_biases: true" if group == "optimizer" else "interval: step"
    (Path("options") / group / "mine.yaml").write_text(f"_target_: {module}.{name}\n{keys}\n")
    ended = convoy("train", "--config-dir", "options", f"{group}=mine", "logger=csv", "trainer.gpus=0")
    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert not ended.folder.exists()


def test_a_value_that_a_schedule_refuses_is_reported_before_a_run_begins() -> None:
    config = read(["trainer.gpus=0"])
    config.scheduler = {"_target_": "torch.optim.lr_scheduler.CyclicLR", "base_lr": 0.1, "max_lr": 1.0, "mode": "no"}
    with pytest.raises(UserError, match="mode is invalid"):
        check_targets(config)


@pytest.mark.parametrize(("name", "key"), [("StepLR", "step_size"), ("CosineAnnealingLR", "T_max")])
def test_a_value_that_fails_at_a_step_of_a_schedule_is_reported_before_a_run_begins(name: str, key: str) -> None:
    config = read(["trainer.gpus=0"])
    config.scheduler = {"_target_": f"torch.optim.lr_scheduler.{name}", key: 0, "interval": "epoch"}
    message = rf"{name} fails at its first step \(ZeroDivisionError.*\); correct a value of scheduler\.{key}$"
    with pytest.raises(UserError, match=message):
        try_targets(config)


@pytest.mark.parametrize("option", Options().of("scheduler"))
def test_a_shipped_schedule_passes_the_trial(option: str) -> None:
    try_targets(read(["trainer.gpus=0", f"scheduler={option}"]))
