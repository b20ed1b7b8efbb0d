"""The error of each image against the outputs of the network."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import torch
from tests.conftest import TINY, Run

from convoy.evaluation.network_outputs import outputs_of
from convoy.evaluation.run_evaluation import Evaluation
from convoy.evaluation.trained_run import TrainedRun


def test_images_are_listed_with_their_errors_the_worst_first(convoy: Callable[..., Run]) -> None:
    assert convoy("train", *TINY, "trainer.max_epochs=1").code == 0
    done = convoy("evaluate", "run=run", "per_image=true", folder=None)
    assert done.code == 0, done.err
    assert "run/evaluation-digits-test-images.csv" in done.out
    with Path("run/evaluation-digits-test-images.csv").open(newline="") as file:
        rows = [(row["image"], float(row["error"])) for row in csv.DictReader(file)]
    opened = Evaluation.open(TrainedRun.open("run"), "test", [])
    outputs, targets = outputs_of(opened.module, opened.data, "test")
    probabilities, predicted = torch.softmax(outputs, 1).max(1)
    names = opened.data.images.image_names("test")
    expected = {
        name: 0.0 if right else probability
        for name, right, probability in zip(names, (predicted == targets).tolist(), probabilities.tolist(), strict=True)
    }
    assert len(rows) == len(expected) == 359
    assert all(abs(expected[name] - error) < 1e-5 for name, error in rows)
    errors = [error for _, error in rows]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0


def test_several_runs_have_no_errors_of_images(convoy: Callable[..., Run]) -> None:
    done = convoy("evaluate", "runs=[a,b]", "per_image=true", folder=None)
    assert done.code == 2
    assert "per_image=true: needs one run" in done.err
