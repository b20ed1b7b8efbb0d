"""Tests of the share of batches and epochs that are mixed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.conftest import TINY, Run
from torch import Tensor

from convoy.data.batches.collate import Batch
from convoy.data.targets import CLASS_INDEX, Targets
from convoy.tasks.classification import Classification
from convoy.tasks.mixing import mixing


def is_mixed(result: tuple[Tensor, Tensor]) -> bool:
    return result[1].ndim == 2


@pytest.mark.parametrize("probability", [0.25, 0.8])
def test_a_share_of_the_batches_is_mixed(probability: float) -> None:
    mix = mixing(0.4, 1.0, 3, probability)
    assert mix is not None
    images, labels = torch.rand(4, 1, 6, 6), torch.tensor([0, 1, 2, 0])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        count = sum(is_mixed(mix(images, labels)) for _ in range(600))
    assert abs(count / 600 - probability) < 4 * (probability * (1 - probability) / 600) ** 0.5


def test_batches_are_mixed_in_the_first_epochs() -> None:
    task = Classification(Targets(CLASS_INDEX, ("a", "b")), torch.nn.CrossEntropyLoss(), mixup=0.4, mix_epochs=2)  # type: ignore[arg-type]
    batch = Batch(torch.rand(4, 1, 6, 6), torch.tensor([0, 1, 1, 0]))
    found = []
    for task.epoch in range(4):
        found.append(is_mixed(task.mixed(batch)))
    assert found == [True, True, False, False]


@pytest.mark.slow
def test_a_run_without_mixed_epochs_equals_one_without_mixing(convoy: Callable[..., Run]) -> None:
    words = (*TINY, "trainer.max_epochs=1", "trainer.log_every_steps=1")
    runs = [convoy("train", *words, *more, folder=name) for name, more in VARIANTS.items()]
    assert [run.code for run in runs] == [0] * len(runs), runs[-1].err
    losses = [[row["train/loss"] for row in run.rows()] for run in runs]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


VARIANTS: dict[str, tuple[Any, ...]] = {
    "plain": (),
    "over": ("task.mixup=0.4", "task.mix_epochs=0"),
    "mixed": ("task.mixup=0.4", "task.mix_epochs=1"),
}


def test_wrong_shares_are_refused(convoy: Callable[..., Run]) -> None:
    done = convoy("train", *TINY, "task.mixup=0.4", "task.mix_probability=1.5")
    assert done.code == 2
    assert "task.mix_probability=1.5: must be at most 1" in done.err
