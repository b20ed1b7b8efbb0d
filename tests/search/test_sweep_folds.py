"""Sweeps over folds: the statistics, and a real sweep."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Run

from convoy.search.sweeps.sweep_folds import folds_of, write_folds
from convoy.search.sweeps.sweep_table import Point


def points(tmp_path: Path, accuracies: dict[tuple[str, int], float | None]) -> list[Point]:
    """Write a summary per point; None for a point that failed."""
    done = []
    for (model, fold), accuracy in accuracies.items():
        folder = tmp_path / f"{model}-{fold}"
        folder.mkdir()
        if accuracy is not None:
            values = {"monitor": "val/top1", "val/top1": accuracy, "val/loss": 2 * accuracy, "seconds": 3.0}
            (folder / "summary.json").write_text(json.dumps(values | {"percent": ["top1"]}))
        done.append(Point([f"model={model}", f"data.fold={fold}"], folder, 0 if accuracy is not None else 1))
    return done


def test_statistics_per_combination_of_the_other_keys(tmp_path: Path) -> None:
    accuracies = {("a", 0): 0.5, ("a", 1): 0.7, ("a", 2): 0.9, ("b", 0): 0.25, ("b", 1): None, ("b", 2): 0.75}
    found = folds_of(["model", "data.fold"], points(tmp_path, accuracies))
    assert [(one.chosen, one.num_folds) for one in found] == [({"model": "a"}, 3), ({"model": "b"}, 2)]
    for one, values in zip(found, ([0.5, 0.7, 0.9], [0.25, 0.75]), strict=True):
        assert one.mean["val/top1"] == pytest.approx(np.mean(values))
        assert one.std["val/top1"] == pytest.approx(np.std(values, ddof=1))
    write_folds(tmp_path / "folds.csv", found)
    with (tmp_path / "folds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["folds"]) for row in rows] == [("a", "3"), ("b", "2")]
    assert float(rows[1]["val/loss_mean"]) == 1.0
    assert not [name for name in rows[0] if name.startswith(("test/", "seconds"))]


def test_a_sweep_over_other_keys_has_no_folds(tmp_path: Path) -> None:
    assert folds_of(["model"], points(tmp_path, {("a", 0): 0.5})) == []


@pytest.mark.slow
def test_a_sweep_trains_every_fold(convoy: Callable[..., Run], tmp_path: Path) -> None:
    for kind in ("dark", "light"):
        (tmp_path / "shades" / kind).mkdir(parents=True)
        for number in range(9):
            shade = number * 5 + (200 if kind == "light" else 0)
            Image.new("RGB", (8, 8), (shade,) * 3).save(tmp_path / "shades" / kind / f"{number}.png")
    words = ["data=shades/", "data.image_size=8", "data.eval_resize=8", "model.layers=[FC-2]", "trainer.max_epochs=1"]
    words += ["logger=csv", "trainer.gpus=0", "trainer.global_batch_size=4", "hardware.cpu_threads=1"]
    done = convoy("train", "-m", *words, "data.folds=2", "data.fold=0,1", folder=None)
    assert done.code == 0, done.err
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    with (folder / "sweep.csv").open(newline="") as file:
        losses = [float(row["val/loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 2
    with (folder / "folds.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["folds"] == "2"
    assert float(row["val/loss_mean"]) == pytest.approx(statistics.fmean(losses))
    assert float(row["val/loss_std"]) == pytest.approx(statistics.stdev(losses))
    assert "val/loss, mean ± std" in done.out
    assert f"{statistics.fmean(losses):.4f} ± {statistics.stdev(losses):.4f}" in done.out
