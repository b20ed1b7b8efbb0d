"""Verbs for trained runs on runs of several labels and of values."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Run

Convoy = Callable[..., Run]

NETWORK = ("logger=csv", "trainer.gpus=0", "trainer.precision=32", "hardware.cpu_threads=1", "trainer.max_steps=6")
DATA = (
    "data=table",
    "data.file=labels.csv",
    "data.image_column=file",
    "data.channels=1",
    "data.image_size=16",
    "data.eval_resize=null",
    "data.mean=[0.5]",
    "data.std=[0.5]",
    "data.num_workers=1",
    "data.val_fraction=0.2",
    "data.test_fraction=0.2",
    "trainer.global_batch_size=16",
)
TASKS = {
    "multilabel": ("task=multilabel", "data.target=multi_hot", "data.target_column=kinds"),
    "regression": ("task=regression", "data.target=values", "data.target_column=[light,dark]"),
}


@pytest.fixture(params=sorted(TASKS))
def run(request: pytest.FixtureRequest, convoy: Convoy, tmp_path: Path) -> tuple[str, Path]:
    """A task and a run of it on 60 gray images."""
    draw = random.Random(0)
    with Path("labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "kinds", "light", "dark"])
        for number in range(60):
            light = draw.randrange(256)
            Image.new("L", (16, 16), light).save(f"{number}.png")
            kinds = [name for name, chosen in (("light", light > 100), ("dark", light < 180)) if chosen]
            writer.writerow([f"{number}.png", "|".join(kinds), light / 255, 1 - light / 255])
    layers = "model.layers=[CONV3-4,POOL2,FC-2]"
    done = convoy("train", *NETWORK, layers, *DATA, *TASKS[request.param])
    assert done.code == 0, done.err
    return request.param, tmp_path / "run"


def test_every_verb_works_for_the_task(run: tuple[str, Path], convoy: Convoy) -> None:
    task, folder = run
    for verb in ("evaluate", "features", "probe", "filters"):
        done = convoy(verb, "run=run", folder=None)
        assert done.code == 0, done.err
    assert convoy("evaluate", "run=run", "bootstrap=20", folder=None).code == 0
    intervals = json.loads((folder / "evaluation-table-test.json").read_text())["intervals"]
    assert all(low <= high for low, high in intervals.values())
    with Image.open(folder / "report" / "activation_maps.png") as image:
        image.verify()
    described = json.loads((folder / "features/table-penultimate-test/features.json").read_text())
    targets = np.load(folder / "features/table-penultimate-test/targets.npy")
    assert targets.shape == (12, 2)
    assert described["targets"]["kind"] == {"multilabel": "multi_hot", "regression": "values"}[task]
    probed = json.loads((folder / "probe-table-penultimate.json").read_text())
    summary = json.loads((folder / "summary.json").read_text())
    monitored = summary["monitor"].removeprefix("val/")
    # Gray levels are linear in the features: the probe is better than outputs that are the same for every image.
    sign = {"multilabel": 1, "regression": -1}[task]
    assert sign * probed["metrics"]["val"][monitored] > sign * probed["constant"][monitored]
    done = convoy("compare", "runs=[run]", "output=mine.png", "format=json", folder=None)
    assert done.code == 0, done.err
    (entry,) = json.loads(done.out)
    assert (entry["metric"], entry["value"]) == (monitored, summary[f"test/{monitored}"])
    assert entry["is_fraction"] == (task == "multilabel")
    with Image.open("mine.png") as image:
        image.verify()


@pytest.mark.slow
@pytest.mark.usefixtures("run")
def test_runs_of_different_metrics_are_listed_but_not_drawn(convoy: Convoy) -> None:
    done = convoy("train", *NETWORK, "model=lenet5", folder="digits")
    assert done.code == 0, done.err
    done = convoy("compare", "runs=[run,digits]", folder=None)
    assert done.code == 0, done.err
    assert "top1 " in done.out
    done = convoy("compare", "runs=[run,digits]", "output=both.png", folder=None)
    assert done.code == 2
    assert "these runs monitor different metrics" in done.err
    assert not Path("both.png").exists()
