"""convoy lr: losses against a plain loop of torch, the suggestion on a known curve, files and mistakes."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, Run

from convoy.data.data_module import ImageData
from convoy.models.building.build import build_model
from convoy.training.preflight import read
from convoy.training.range_test import RangeTest, range_test, smoothed

Convoy = Callable[..., Run]
PLAIN = [word.replace("DROPOUT0.3,", "") for word in TINY]


def test_losses_are_those_of_a_plain_loop_with_a_growing_rate() -> None:
    config = read([*PLAIN, "trainer.global_batch_size=64", "trainer.micro_batch_size=32", "optimizer.momentum=0.5"])
    found = range_test(config, 1e-4, 1.0, 25)
    assert not found.diverged
    data = ImageData(config.data, seed=1, micro_batch_size=32, accumulation=2, eval_batch_size=9)
    data.open()
    torch.manual_seed(1)
    network = build_model(config.model, **data.model_sizes).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), momentum=0.5, nesterov=True, weight_decay=5e-4)
    losses = []
    batches = iter([*data.training_loader(0), *data.training_loader(20)])
    for step in range(25):
        optimizer.param_groups[0]["lr"] = 10 ** (-4 + 4 * step / 24)
        parts = []
        for _ in range(2):
            images, targets = next(batches)
            parts.append(torch.nn.functional.cross_entropy(network(images), targets))
            (parts[-1] / 2).backward()  # type: ignore[no-untyped-call]
        losses.append(sum(part.item() for part in parts) / 2)
        optimizer.step()
        optimizer.zero_grad()
    assert found.losses == pytest.approx(losses, rel=1e-4)
    assert found.rates[0] == pytest.approx(1e-4)
    assert found.rates[24] == pytest.approx(1.0)


def curve(middle: float) -> RangeTest:
    """A loss that falls from 2 to 1 as a logistic function of the rate's logarithm, steepest at 10^middle."""
    rates = [10 ** (-5 + 0.05 * step) for step in range(121)]
    losses = [2 - 1 / (1 + math.exp(-4 * (math.log10(rate) - middle))) for rate in rates]
    return RangeTest(tuple(rates), tuple(losses), tuple(losses), diverged=False)


def test_the_suggestion_is_where_the_loss_falls_fastest() -> None:
    assert curve(-2).suggestion == pytest.approx(0.01)
    flat = RangeTest((0.1, 1.0) * 10, (2.0,) * 20, (2.0,) * 20, diverged=False)
    assert flat.suggestion is None


def test_the_average_of_equal_losses_is_that_loss() -> None:
    assert smoothed([3.0] * 9) == pytest.approx([3.0] * 9)
    assert smoothed([1.0, 2.0])[1] == pytest.approx((0.1 * 2 + 0.09 * 1) / 0.19)


def test_the_command_writes_files_only_where_it_is_told(convoy: Convoy) -> None:
    done = convoy("lr", *TINY, "steps=30", "highest=1e4")
    assert done.code == 0, done.err
    assert "suggestion: optimizer.lr=" in done.out
    assert list(Path().iterdir()) == []
    again = convoy("lr", *TINY, "steps=30", "highest=1e4", "output=range")
    assert done.out in again.out.replace("range/lr_range.csv\nrange/lr_range.png\n", "")
    assert [str(path) for path in sorted(Path().rglob("*.*"))] == ["range/lr_range.csv", "range/lr_range.png"]
    with Path("range/lr_range.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["lr"]) == pytest.approx(1e-6)
    assert len(rows) == int(done.out.split()[0]) < 30  # it diverged
    assert Path("range/lr_range.png").read_bytes().startswith(b"\x89PNG")


def test_a_loss_that_does_not_fall_has_no_suggestion(convoy: Convoy) -> None:
    done = convoy("lr", *TINY, "lowest=1e-10", "highest=1e-9", "steps=20")
    assert done.code == 0
    assert "no suggestion: the loss does not fall. Write a larger highest=" in done.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lowest=2", "highest=1"), "highest=1: must be above lowest=2"),
        (("steps=3",), "steps=3: must be a whole number of at least 20"),
        (("lowest=0",), "lowest=0: must be a number of at least 1e-12"),
        (("step=30",), "step=30: "),
        (("trainer.processes=2",), "write trainer.processes=1"),
    ],
)
def test_mistakes(convoy: Convoy, words: tuple[str, ...], message: str) -> None:
    done = convoy("lr", *TINY, *words)
    assert done.code == 2
    assert message in done.err
