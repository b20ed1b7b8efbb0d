"""What convoy submit asks of the planner, without a Slurm."""

from __future__ import annotations

import re

import pytest

from convoy.commands.submission.submit_plan import memory_lines
from convoy.config.faults import UserError
from convoy.config.schema import Config
from convoy.training import preflight

RESNET = ("model=resnet18", "data.image_size=224", "trainer.global_batch_size=8192", "trainer.gpus=2")


def read(*words: str) -> Config:
    return preflight.read([*RESNET, *words], to_run=False)


@pytest.mark.slow
def test_points_with_the_same_memory_are_planned_once() -> None:
    configs = [read("hardware=a100_80gb", f"seed={seed}", f"optimizer.lr={lr}") for seed in (1, 2) for lr in (0.1, 0.2)]
    (line,) = memory_lines(configs)
    assert line.startswith("memory  ")
    assert re.search(r"  \d+\.\d\d to \d+\.\d\d GiB of 79.15 GiB", line)
    assert " of 79.15 GiB on a100_80gb (predicted, not calibrated): resnet18, micro batch 4096" in line
    assert len(memory_lines([configs[0], read("hardware=a100_80gb", "trainer.precision=16-mixed")])) == 2


@pytest.mark.slow
def test_each_misfit_is_refused_with_a_remedy() -> None:
    with pytest.raises(UserError) as raised:
        memory_lines([read("hardware=a40", "trainer.precision=32"), read("hardware=a40", "optimizer=adamw")])
    told = [str(fault) for fault in raised.value.faults]
    assert [fault.split(",")[0] for fault in told] == ["hardware=a40: has 44.35 GiB"] * len(told)
    assert "accumulation steps keep the global batch of 8192" in told[0]
    assert "plan.force=true" in told[0]
    assert memory_lines([read("hardware=a40", "trainer.precision=32", "plan.force=true")])
    assert memory_lines([read("hardware=a40", "trainer.precision=32", "trainer.micro_batch_size=auto")])


def test_an_unpredictable_training_is_reported_and_not_refused() -> None:
    (line,) = memory_lines([read("hardware=a40", "trainer.compile=true")])
    assert line.startswith("memory  not predicted: trainer.compile")
    assert memory_lines([read("hardware=auto"), read("hardware=a40", "hardware.accelerator=cpu")]) == []
