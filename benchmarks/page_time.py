"""Time to open the page of a run with many logged points, and that of a sweep with many points, in Chromium.

The time is that from the request to the last chart. Records are generated.

    python -m benchmarks.page_time --rows 100000 --points 500
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks.results import Goal, Result
from benchmarks.rounds import machine
from convoy.report.pages.run_page import write_report
from convoy.report.pages.sweep_page import write_sweep_report
from convoy.runs.layout import RunFolder

BOUND_S = 2.0
"""Upper bound in seconds for each page."""

_TASK = {"monitor": "val/top1", "mode": "max", "percent": ["top1"]}


def make_run(run: Path, rows: int, learning_rate: float) -> Path:
    """Write the records of a run with `rows` rows of training, and one of val in a hundred."""
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump({"name": "run", "task": _TASK}))
    (run / "overrides.yaml").write_text(f"- {json.dumps([f'optimizer.lr={learning_rate}', 'model=vgg16'])}\n")
    (run / "summary.json").write_text(json.dumps({"status": "finished", "val/top1": learning_rate / 2, "seconds": 9}))
    lines = ["step,epoch,train/loss,lr,seconds,val/top1"]
    for step in range(1, rows + 1):
        lines.append(f"{step},{step / 100:g},{3 / math.sqrt(step) + step % 7 / 50:.6f},{learning_rate},{step / 10},")
        if step % 100 == 0:
            lines.append(f"{step},{step // 100},,,,{1 - 1 / math.sqrt(step):.6f}")
    (run / "metrics.csv").write_text("\n".join(lines) + "\n")
    return run


def seconds_to_open(page: Path) -> float:
    """Return the time until the charts of a page are drawn."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        executable = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        opened.goto("about:blank")
        began = time.perf_counter()
        opened.goto(page.as_uri())
        opened.wait_for_selector("html[data-drawn=true]")
        seconds = time.perf_counter() - began
        browser.close()
    return seconds


def main(words: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the run")
    parser.add_argument("--points", type=int, default=500, help="points of the sweep, with 1,000 rows each")
    parser.add_argument("--rounds", type=int, default=5, help="times that each page is opened")
    given = parser.parse_args(words)
    print(machine())
    results = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run = make_run(root / "run", given.rows, 0.1)
        for index in range(given.points):
            make_run(root / "sweep" / f"{index}_point", 1_000, 0.001 * (index + 1))
        began = time.perf_counter()
        pages = {f"run of {given.rows:,} rows": write_report(RunFolder(run))}
        between = time.perf_counter()
        pages[f"sweep of {given.points} points"] = write_sweep_report(root / "sweep")
        print(f"written in {between - began:.1f} and {time.perf_counter() - between:.1f} s")
        for name, page in pages.items():
            times = sorted(seconds_to_open(page) for _ in range(given.rounds))
            size = page.stat().st_size / 1e6
            goal = Goal(BOUND_S, at_least=False)
            results.append(
                Result(f"time to open the page of a {name}", f"{size:.1f} MB", None, times, goal=goal, unit="s")
            )
    for result in results:
        print(result.line())
    return results


if __name__ == "__main__":
    main()
