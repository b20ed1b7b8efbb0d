"""Bootstrap intervals against those of SciPy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap
from tests.conftest import TINY, Run
from torch.nn import functional

from convoy.evaluation.bootstrap import bootstrap_intervals
from convoy.evaluation.network_outputs import outputs_of
from convoy.evaluation.run_evaluation import Evaluation
from convoy.evaluation.trained_run import TrainedRun
from convoy.tasks.construction import metrics_of

Convoy = Callable[..., Run]


def test_intervals_are_those_of_scipy(convoy: Convoy) -> None:
    assert convoy("train", *TINY).code == 0
    done = convoy("evaluate", "run=run", "bootstrap=2000", folder=None)
    assert done.code == 0, done.err
    assert "2.5%" in done.out
    assert "97.5%" in done.out
    record = json.loads(Path("run/evaluation-digits-test.json").read_text())

    opened = Evaluation.open(TrainedRun.open("run"), "test", [])
    outputs, targets = outputs_of(opened.module, opened.data, "test")
    assert float((outputs.argmax(1) == targets).double().mean()) == pytest.approx(record["test/top1"])
    per_image = {
        "test/top1": (outputs.argmax(1) == targets).double().numpy(),
        "test/loss": functional.cross_entropy(outputs.double(), targets, reduction="none").numpy(),
    }
    for name, values in per_image.items():
        expected = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
        width = expected.high - expected.low
        # The quantiles of 2,000 samples vary by about a fiftieth of the width.
        assert record["intervals"][name] == pytest.approx(list(expected), abs=width / 12)


def test_intervals_are_repeatable_and_contain_the_value(convoy: Convoy) -> None:
    assert convoy("train", *TINY).code == 0
    opened = Evaluation.open(TrainedRun.open("run"), "val", [])
    outputs, targets = outputs_of(opened.module, opened.data, "val")
    task, config = opened.module.task, opened.data.config

    def intervals() -> dict[str, tuple[float, float]]:
        return bootstrap_intervals(task, lambda: metrics_of(task, config, "val"), outputs, targets, 50)

    found = intervals()
    assert found == intervals()
    metrics = metrics_of(task, config, "val")
    task.update_metrics(metrics, outputs, targets)
    for name, value in task.compute(metrics).items():
        low, high = found[name]
        assert low <= value <= high
    # One image has one value.
    alone = bootstrap_intervals(task, lambda: metrics_of(task, config, "val"), outputs[:1], targets[:1], 5)
    assert alone["loss"][0] == pytest.approx(alone["loss"][1])
    assert torch.isfinite(torch.tensor(alone["loss"])).all()


def test_several_runs_have_no_intervals(convoy: Convoy) -> None:
    done = convoy("evaluate", "runs=[a,b]", "bootstrap=10", folder=None)
    assert done.code == 2
    assert "bootstrap=10: needs one run" in done.err
