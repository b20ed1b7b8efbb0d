"""Metrics against scikit-learn and a plain loop, and the file they are written to."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from convoy.records.metrics_csv import MetricsFile
from convoy.training.running_metrics import RunningMetrics
from convoy.training.summary import wait_lines


def test_running_metrics_are_means_over_samples_not_over_batches() -> None:
    running = RunningMetrics()
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    for step, part in enumerate((slice(0, 1), slice(1, 3))):
        right = (logits[part].argmax(1) == labels[part]).sum()
        running.add({"loss": losses[part].mean()}, {"top1": right}, len(labels[part]), step)
    values = running.take()
    assert values == pytest.approx({"train/loss": losses.mean().item(), "train/top1": 2 / 3})
    assert running.take() == {}


def test_a_micro_batch_takes_five_operations_to_count() -> None:
    """As operators of torch that compute or copy, apart from views; 18 of them before."""
    running = RunningMetrics()
    loss, right = torch.tensor(0.5), torch.tensor(3.0)
    running.add({"loss": loss}, {"top1": right}, 4, 0)
    with CountedOperators() as counted:
        running.add({"loss": loss}, {"top1": right}, 4, 1)
    assert counted.names == ["aten.add", "aten.mul", "aten.eq", "aten.add", "aten.add"]


class CountedOperators(TorchDispatchMode):
    """Names of the operators that ran, without views."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            self.names.append(str(func.overloadpacket))
        return func(*args, **(kwargs or {}))


def test_running_metrics_of_a_resumed_run_are_those_of_an_uninterrupted_one() -> None:
    whole, first, second = RunningMetrics(), RunningMetrics(), RunningMetrics()
    losses = torch.rand(7, generator=torch.Generator().manual_seed(1))
    for step, loss in enumerate(losses):
        whole.add({"loss": loss, "auxiliary": loss / 3}, {"top1": loss.round()}, 5, step)
        if step == 3:
            second.load(first.state())
        (first if step < 3 else second).add({"loss": loss, "auxiliary": loss / 3}, {"top1": loss.round()}, 5, step)
    assert second.take() == whole.take()


def test_running_metrics_know_which_micro_batch_of_a_step_broke() -> None:
    running = RunningMetrics()
    for micro_batch, loss in enumerate([1.0, 1.0, 1.0, float("inf"), 1.0, 1.0]):
        running.add({"loss": torch.tensor(loss)}, {}, 1, micro_batch // 2)
    assert running.take()["first_bad_step"] == 2
    running.add({"loss": torch.tensor(1.0)}, {}, 1, 3)
    assert running.take() == {"train/loss": 1.0}


def test_running_metrics_know_the_first_step_that_broke_and_survive_a_checkpoint() -> None:
    running = RunningMetrics()
    for step, loss in enumerate([1.0, float("nan"), float("inf"), 1.0]):
        running.add({"loss": torch.tensor(loss)}, {}, 1, step)
    again = RunningMetrics()
    again.load(running.state())
    assert again.take()["first_bad_step"] == 2


def test_a_resumed_metrics_file_drops_later_rows_the_test_and_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsFile(path)
    for step in (1, 2, 3):
        first.log_metrics({"train/loss": step / 7}, step)
    first.log_metrics({"test/top1": 0.5}, 2)
    with path.open("a") as file:
        file.write("3,0.")
    second = MetricsFile(path, from_step=2)
    second.log_metrics({"train/loss": 9.0, "unknown": 1.0}, 3)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["step", "epoch", "train/loss", "test/top1", "unknown"]
    assert rows[2]["unknown"] == "1"
    assert [(row["step"], row["train/loss"]) for row in rows] == [
        ("1", "0.142857143"),
        ("2", "0.285714286"),
        ("3", "9"),
    ]


def test_a_new_metrics_file_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    MetricsFile(path).log_metrics({"train/loss": 1.0}, 1)
    MetricsFile(path).log_metrics({"train/loss": 2.0}, 1)
    assert len(path.read_text().splitlines()) == 2


def test_a_run_that_waited_for_data_prints_a_remedy() -> None:
    assert wait_lines({"data_wait": 0.05}, "image_folder") == []
    assert wait_lines({}, "digits") == []
    (line,) = wait_lines({"data_wait": 0.31}, "image_folder")
    assert line.startswith("waited for data 31% of the time: more threads decode with data.num_workers=")
