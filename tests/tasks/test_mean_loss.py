"""The mean of a loss over batches of different sizes, without reads of the device."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.scalar_reads import ScalarReads

from convoy.tasks.mean_loss import MeanLoss

BATCHES = (7, 7, 3)


@pytest.mark.parametrize("form", ["per sample", "per sample and value", "mean"])
def test_the_mean_is_over_samples_and_reads_nothing(form: str) -> None:
    generator = torch.Generator().manual_seed(2)
    losses = torch.rand(sum(BATCHES), 2, generator=generator)
    metric = MeanLoss()
    with ScalarReads() as reads:
        for part in losses.split(BATCHES):
            given = {"per sample": part[:, 0], "per sample and value": part, "mean": part.mean()}[form]
            metric.update(given, len(part))
    assert reads.count == 0
    values = losses.numpy()
    assert float(metric.compute()) == pytest.approx(np.mean(values[:, 0] if form == "per sample" else values), rel=1e-6)


def test_a_loss_that_is_not_a_number_is_not_left_out() -> None:
    metric = MeanLoss()
    metric.update(torch.tensor([1.0, math.nan]), 2)
    assert math.isnan(float(metric.compute()))
