"""Metrics against scikit-learn and a plain loop, and the file they are written to."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, top_k_accuracy_score

from convoy.records.metrics_csv import COLUMNS, MetricsFile
from convoy.tasks.evaluation_metrics import EvaluationMetrics
from convoy.training.running_metrics import RunningMetrics
from convoy.training.summary import wait_lines


def test_evaluation_over_ragged_batches_is_scikit_learns_over_all_samples() -> None:
    generator = torch.Generator().manual_seed(3)
    logits, labels = torch.randn(57, 8, generator=generator), torch.randint(0, 8, (57,), generator=generator)
    metrics = EvaluationMetrics(8, per_class=True)
    for part, wanted in zip(logits.split(20), labels.split(20), strict=True):
        metrics.update(part, wanted, torch.nn.functional.cross_entropy(part, wanted, reduction="none"))
    values, report = metrics.compute("val"), metrics.report()

    probabilities = logits.softmax(1).double().numpy()
    probabilities /= probabilities.sum(1, keepdims=True)
    predicted = logits.argmax(1).numpy()
    assert values["val/top1"] == pytest.approx(accuracy_score(labels, predicted))
    assert values["val/error"] == pytest.approx(1 - accuracy_score(labels, predicted))
    assert values["val/top5"] == pytest.approx(top_k_accuracy_score(labels, probabilities, k=5, labels=range(8)))
    assert values["val/loss"] == pytest.approx(log_loss(labels, probabilities, labels=range(8)), rel=1e-5)
    matrix = confusion_matrix(labels, predicted, labels=range(8))
    assert report["confusion_matrix"] == matrix.tolist()
    assert report["per_class"] == pytest.approx(list(np.diag(matrix) / matrix.sum(1)))


def test_there_is_no_top5_of_five_classes_and_no_accuracy_of_a_class_without_images() -> None:
    metrics = EvaluationMetrics(3, per_class=True)
    metrics.update(torch.eye(3)[:2], torch.tensor([0, 1]), torch.zeros(2))
    assert "val/top5" not in metrics.compute("val")
    assert metrics.report()["per_class"] == [1.0, 1.0, None]


def test_the_tally_is_the_mean_over_samples_not_over_batches() -> None:
    tally = RunningMetrics()
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    tally.add(losses[:1].mean(), logits[:1], labels[:1], step=0)
    tally.add(losses[1:].mean(), logits[1:], labels[1:], step=1)
    values = tally.take()
    assert values == pytest.approx({"train/loss": losses.mean().item(), "train/top1": 2 / 3})
    assert tally.take() == {}


def test_the_tally_knows_the_first_step_that_broke_and_survives_a_checkpoint() -> None:
    tally, logits, labels = RunningMetrics(), torch.zeros(1, 2), torch.tensor([0])
    for step, loss in enumerate([1.0, float("nan"), float("inf"), 1.0]):
        tally.add(torch.tensor(loss), logits, labels, step)
    again = RunningMetrics()
    again.load(tally.state())
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
    assert tuple(rows[0]) == COLUMNS
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


def test_a_run_that_waited_for_its_data_says_what_to_change() -> None:
    assert wait_lines({"data_wait": 0.05}, "image_folder") == []
    assert wait_lines({}, "digits") == []
    (line,) = wait_lines({"data_wait": 0.31}, "image_folder")
    assert line.startswith("waited for data 31% of the time: more threads decode with data.num_workers=")
