"""Page of a sweep: of a real one in a browser, and of generated ones against their numbers."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import TINY, Run

from convoy.report.pages.sweep_charts import LEAST_FOR_IMPORTANCE, importance
from convoy.report.pages.sweep_page import sweep_page, write_sweep_report
from convoy.report.pages.sweep_records import read_sweep


def made(folder: Path, count: int, steps: int = 3) -> Path:
    """Write the records of a sweep over lr and width, in which the accuracy depends on lr alone."""
    draw = random.Random(0)
    for number in range(count):
        lr, width = 10 ** draw.uniform(-3, 0), draw.choice([8, 16, 32])
        accuracy = 1 - 0.1 * abs(math.log10(lr) + 1.5)
        run = folder / f"{number}_lr"
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(
            yaml.safe_dump({"task": {"monitor": "val/top1", "mode": "max", "percent": ["top1"]}})
        )
        words = ["model=lenet5", f"optimizer.lr={lr:.5g}", f"model.width={width}", f"folder={run}"]
        (run / "overrides.yaml").write_text(f"- {json.dumps(words)}\n")
        (run / "summary.json").write_text(json.dumps({"status": "finished", "val/top1": accuracy, "seconds": 9.5}))
        (run / "ledger.json").write_text(
            json.dumps({"totals": {"params": 100 * width, "macs": 7, "saved_bytes": width}})
        )
        rows = "".join(f"{step},{step},{accuracy * step / steps}\n" for step in range(1, steps + 1))
        (run / "metrics.csv").write_text(f"step,epoch,val/top1\n{rows}")
    return folder


@pytest.mark.slow
def test_a_real_sweep_in_a_browser(convoy: Callable[..., Run], browse: Callable[..., Any], tmp_path: Path) -> None:
    done = convoy(
        "train", "-m", *TINY, "trainer.max_steps=4", "report=false", "optimizer.lr=0.1,0.01,1e30", folder=None
    )
    assert done.code == 1
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    written = convoy("report", f"sweep={folder}", folder=None)
    assert written.code == 0, written.err
    opened = browse(folder / "report.html")
    assert opened.errors == []
    assert opened.serious_faults() == []
    assert len(opened.requests) == 1
    text = opened.page.text_content("main")
    assert "3 of 3" not in opened.page.text_content("header")
    assert opened.page.locator("#failed-points tbody tr").count() == 1
    command = opened.page.locator("#best-point pre").text_content()
    best = max(
        (run for run in folder.glob("*/summary.json")), key=lambda path: json.loads(path.read_text()).get("val/top1", 0)
    )
    assert f"optimizer.lr={best.parent.name.rpartition('=')[2]}" in command
    assert "resume" not in text.partition("Failed points")[0]


def test_the_best_point_and_the_varied_keys_are_found(tmp_path: Path) -> None:
    sweep = read_sweep(made(tmp_path / "sweep", 5))
    assert list(sweep.keys) == ["optimizer.lr", "model.width"]
    best = sweep.best()
    assert best is not None
    assert best.summary["val/top1"] == max(point.summary["val/top1"] for point in sweep.points)
    text = sweep_page(sweep).html()
    assert f"convoy train model=lenet5 optimizer.lr={best.values['optimizer.lr']}" in text
    assert "folder=" not in text
    assert "importance of the keys" not in text  # of 5 points


def test_the_importance_is_that_of_the_key_that_matters(tmp_path: Path) -> None:
    (figure,) = importance(read_sweep(made(tmp_path / "sweep", 2 * LEAST_FOR_IMPORTANCE)))
    lr, width = (row[1].order for row in figure.chart.rows)
    assert lr > 10 * abs(width)


def test_points_without_records_are_listed_as_failed(tmp_path: Path) -> None:
    folder = made(tmp_path / "sweep", 3)
    (folder / "1_lr" / "summary.json").unlink()
    (folder / "1_lr" / "run.log").write_text("epoch 1\nstopped: CUDA out of memory\n\n")
    (folder / "9_lr").mkdir()
    (folder / "sweep.csv").write_text(
        "optimizer.lr,exit_code,folder\n5,1,outputs/sweeps/x/9_lr\n1,0,outputs/sweeps/x/0_lr\n"
    )
    sweep = read_sweep(folder)
    assert [point.status for point in sweep.points] == ["finished", "failed", "finished", "failed"]
    text = sweep_page(sweep).html()
    assert "stopped: CUDA out of memory" in text
    assert "2 of 4 points finished" in text


@pytest.mark.parametrize(("name", "message"), [("nothing", "no such folder"), ("empty", "contains no run")])
def test_a_folder_without_runs_is_refused(convoy: Callable[..., Run], tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    done = convoy("report", f"sweep={name}", folder=None)
    assert done.code == 2
    assert message in done.err


def test_a_page_of_500_points_stays_small(tmp_path: Path) -> None:
    path = write_sweep_report(made(tmp_path / "sweep", 500, steps=200))
    assert path.stat().st_size < 5_000_000
