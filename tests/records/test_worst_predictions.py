"""Images with the worst predictions, and calibration, against independent computation."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import TINY, Run
from torchmetrics.functional.classification import multiclass_calibration_error

from convoy.evaluation.trained_run import TrainedRun
from convoy.records.mistakes import MOST_IMAGES
from convoy.tasks.calibration_bins import NUM_BINS, CalibrationBins


def test_the_worst_predictions_are_those_of_the_network(convoy: Callable[..., Run]) -> None:
    done = convoy("train", *TINY)
    assert done.code == 0, done.err
    found = json.loads((done.folder / "mistakes.json").read_text())
    assert found["split"] == "test"
    wrong = round((1 - done.summary()["test/top1"]) * done.summary()["images"]["test"])
    assert len(found["images"]) == min(wrong, MOST_IMAGES)
    severities = [one["severity"] for one in found["images"]]
    assert severities == sorted(severities, reverse=True)
    trained = TrainedRun.open(str(done.folder))
    (mean,), (std,) = trained.config.data.mean, trained.config.data.std
    for one in found["images"]:
        image = Image.open(BytesIO(base64.b64decode(one["image"].partition(",")[2])))
        pixels = torch.from_numpy(np.asarray(image).copy()).float()[None, None] / 255
        value, index = trained.network((pixels - mean) / std).softmax(1).max(1)
        assert one["prediction"][0] == [str(int(index)), f"{one['severity']:.2%}"]
        assert one["target"] != str(int(index))
        assert value.item() == pytest.approx(one["severity"], abs=0.01)  # the pixels were rounded to 8 bits


def test_without_a_test_split_the_tables_are_those_of_val(convoy: Callable[..., Run], tmp_path: Path) -> None:
    for split, count in (("train", 12), ("val", 6)):
        for index, color in enumerate(("red", "blue")):
            folder = tmp_path / "photos" / split / color
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (16, 16), (200 * (1 - index) + number, 5, 200 * index)).save(folder / f"{number}.png")
    words = [word for word in TINY if "layers" not in word]
    words += ["model.layers=[CONV3-4,GAP,FC-2]", "data=image_folder", "data.root=photos", "data.image_size=16"]
    done = convoy("train", *words, "trainer.global_batch_size=8")
    assert done.code == 0, done.err
    summary = done.summary()
    assert set(summary["val/per_class"]) == {"red", "blue"}
    assert not any(key.startswith("test/") for key in summary)
    rights = np.mean(list(summary["val/per_class"].values()))
    assert rights == pytest.approx(summary["val/top1"])
    assert not any(row.get("test/loss") for row in done.rows())


@pytest.mark.slow
def test_two_processes_find_the_same(shell: Callable[..., Run]) -> None:
    words = ("trainer.max_steps=3", "optimizer.lr=1e-12")  # two processes round sums differently
    first = shell("train", *TINY, *words, folder="one")
    assert first.code == 0, first.err
    second = shell("train", *TINY, *words, "trainer.processes=2", folder="two")
    assert second.code == 0, second.err
    one, two = (json.loads((done.folder / "mistakes.json").read_text()) for done in (first, second))
    assert [image["target"] for image in one["images"]] == [image["target"] for image in two["images"]]
    assert [image["image"] for image in one["images"]] == [image["image"] for image in two["images"]]


def test_the_bins_give_the_calibration_error_of_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(500, 7, generator=generator)
    targets = torch.randint(0, 7, (500,), generator=generator)
    metric = CalibrationBins()
    for part in range(0, 500, 100):
        metric.update(logits[part : part + 100], targets[part : part + 100])
    rows = metric.table().rows
    assert len(rows) == NUM_BINS
    assert sum(row[2] for row in rows) == 500
    error = sum(row[2] * abs(row[3] - row[4]) for row in rows if row[2]) / 500
    expected = multiclass_calibration_error(logits.softmax(1), targets, 7, n_bins=NUM_BINS, norm="l1")
    assert error == pytest.approx(float(expected), abs=1e-5)
