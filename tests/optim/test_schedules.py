"""Schedules against torch's own, step by step."""

from __future__ import annotations

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LambdaLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
)

from convoy.config.compose import compose
from convoy.config.faults import UserError
from convoy.optim.build_optimizer import build_scheduler
from convoy.optim.schedules import constant, cosine, linear


def optimizer() -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)


def users_schedule(optimizer: SGD, warmup_steps: int = 7) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: (step + 1) / warmup_steps)


def rates(scheduler: LRScheduler, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def test_cosine_is_torchs_warm_up_and_cosine_in_sequence() -> None:
    ours = cosine(optimizer(), total_steps=100, warmup_steps=10, final_fraction=0.1)
    theirs_optimizer = optimizer()
    theirs = SequentialLR(
        theirs_optimizer,
        [
            LinearLR(theirs_optimizer, start_factor=0.1, end_factor=1.0, total_iters=9),
            CosineAnnealingLR(theirs_optimizer, T_max=90, eta_min=0.04),
        ],
        milestones=[10],
    )
    assert rates(ours, 100) == pytest.approx(rates(theirs, 100))


def test_linear_ends_at_its_final_fraction() -> None:
    found = rates(linear(optimizer(), 50, final_fraction=0.5), 51)
    assert (found[0], found[25], found[50]) == pytest.approx((0.4, 0.3, 0.2))


def test_constant_stays_after_its_warm_up_in_steps() -> None:
    assert rates(constant(optimizer(), 50, warmup_steps=4), 6) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_a_warm_up_in_epochs_never_takes_more_than_a_quarter_of_a_short_run() -> None:
    node = {"_target_": "convoy.optim.schedules.cosine", "warmup_epochs": 5, "interval": "step"}
    found = rates(build_scheduler(node, optimizer(), total_steps=20, steps_per_epoch=100), 20)
    assert found.index(max(found)) <= 5


def test_restarts_begin_again_after_the_warm_up_in_epochs_or_steps() -> None:
    node = {"_target_": "convoy.optim.schedules.cosine_restarts", "cycle_epochs": 2, "interval": "step"}
    for warmup in ({"warmup_epochs": 1.5, "warmup_steps": None}, {"warmup_epochs": 0, "warmup_steps": 15}):
        found = rates(build_scheduler({**node, **warmup}, optimizer(), total_steps=100, steps_per_epoch=10), 60)
        assert found[:15] == pytest.approx([0.4 * (step + 1) / 15 for step in range(15)])
        theirs = optimizer()
        assert found[15:] == pytest.approx(rates(CosineAnnealingWarmRestarts(theirs, T_0=20), 45))


def test_a_schedule_of_the_user_gets_the_warm_up_of_its_group_or_keeps_its_default() -> None:
    target = f"{__name__}.users_schedule"
    compose([f"scheduler._target_={target}"])  # what the user writes is trusted
    for warmup, steps in (({}, 7), ({"warmup_epochs": 2}, 6)):
        node = {"_target_": target, "interval": "step", **warmup}
        found = rates(build_scheduler(node, optimizer(), total_steps=60, steps_per_epoch=3), 1)
        assert found == pytest.approx([0.4 / steps])


def test_a_placeholder_is_the_runs_length() -> None:
    node = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": "{total_steps}", "interval": "step"}
    assert build_scheduler(node, optimizer(), total_steps=77, steps_per_epoch=7).T_max == 77


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.9},
        {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 1.0},
        {"_target_": "torch.optim.lr_scheduler.PolynomialLR", "total_iters": "{total_steps}"},
        {"_target_": "timm.scheduler.CosineLRScheduler", "t_initial": 30},
        {"_target_": "timm.scheduler.StepLRScheduler", "decay_t": 10},
    ],
)
def test_any_scheduler_of_torch_or_timm_is_built(node: dict[str, object]) -> None:
    made = build_scheduler({**node, "interval": "epoch"}, optimizer(), total_steps=90, steps_per_epoch=3)
    assert type(made).__name__ == str(node["_target_"]).rsplit(".", 1)[-1]


def test_a_value_that_a_scheduler_refuses_is_a_users_mistake() -> None:
    node = {"_target_": "torch.optim.lr_scheduler.MultiStepLR", "milestones": 3}
    with pytest.raises(UserError, match="can't be built"):
        build_scheduler(node, optimizer(), total_steps=9, steps_per_epoch=3)
