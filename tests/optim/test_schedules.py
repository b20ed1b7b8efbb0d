"""Schedules against torch's own, step by step."""

from __future__ import annotations

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from convoy.config.faults import UserError
from convoy.optim.build_optimizer import build_scheduler
from convoy.optim.schedules import constant, cosine, linear


def optimizer() -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)


def rates(scheduler: LRScheduler, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def test_cosine_is_torchs_warm_up_and_cosine_in_sequence() -> None:
    ours = cosine(optimizer(), total_steps=100, steps_per_epoch=10, warmup_epochs=1, final_fraction=0.1)
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
    found = rates(linear(optimizer(), 50, 10, warmup_epochs=0, final_fraction=0.5), 51)
    assert (found[0], found[25], found[50]) == pytest.approx((0.4, 0.3, 0.2))


def test_constant_stays_after_its_warm_up_in_steps() -> None:
    assert rates(constant(optimizer(), 50, 10, warmup_steps=4), 6) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_a_warm_up_in_epochs_never_takes_more_than_a_quarter_of_a_short_run() -> None:
    found = rates(cosine(optimizer(), total_steps=20, steps_per_epoch=100, warmup_epochs=5), 20)
    assert found.index(max(found)) <= 5


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
