"""Reliability diagram: bins against torchmetrics and scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.calibration import calibration_curve
from tests.conftest import TINY, Run
from torchmetrics.functional.classification import multiclass_calibration_error

from convoy.report.reliability import Reliability
from convoy.tasks.calibration_bins import NUM_BINS, CalibrationBins

Convoy = Callable[..., Run]


def test_bins_are_those_of_torchmetrics_and_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.softmax(3 * torch.randn(2000, 5, generator=generator).double(), 1)
    targets = torch.randint(5, (2000,), generator=generator)
    bins = CalibrationBins()
    bins.update(probabilities.log(), targets)
    found = Reliability.of(bins.table().rows)
    assert found.counts.sum() == 2000
    expected = multiclass_calibration_error(probabilities, targets, 5, n_bins=NUM_BINS)
    assert found.error == pytest.approx(float(expected), abs=1e-5)
    confidences, predicted = probabilities.max(1)
    accuracies, means = calibration_curve((predicted == targets).numpy(), confidences.numpy(), n_bins=NUM_BINS)
    used = found.counts > 0
    assert found.accuracies[used] == pytest.approx(accuracies, abs=1e-5)
    assert found.confidences[used] == pytest.approx(means, abs=1e-5)
    assert np.isnan(found.accuracies[~used]).all()


def test_the_command_draws_the_diagram(convoy: Convoy) -> None:
    assert convoy("train", *TINY).code == 0
    done = convoy("evaluate", "run=run", "reliability=true", folder=None)
    assert done.code == 0, done.err
    path = Path("run/evaluation-digits-test-reliability.png")
    assert done.out.splitlines()[-1] == str(path)
    with Image.open(path) as image:
        image.verify()
