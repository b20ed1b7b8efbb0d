"""Page of a run: in a real browser, and against the run's records."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import TINY, Run

from convoy.report.pages.document import Page, Section
from convoy.report.pages.line_chart import reduced
from convoy.report.pages.results import confusion, per_target, task_tables
from convoy.report.pages.run_page import run_page, write_report
from convoy.runs.layout import RunFolder

HOSTILE = "</script><script>alert(1)</script><b>&"


@pytest.fixture
def run(convoy: Callable[..., Run]) -> RunFolder:
    done = convoy("train", *TINY, folder="run")
    assert done.code == 0, done.err
    return RunFolder(done.folder)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")])
def test_a_browser_draws_the_page_without_a_fault(
    run: RunFolder, browse: Callable[..., Any], width: int, scheme: str
) -> None:
    opened = browse(write_report(run), width, scheme)
    assert opened.errors == []
    assert len(opened.requests) == 1
    assert opened.serious_faults() == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    for chart in opened.page.query_selector_all(".chart"):
        assert len(chart.query_selector_all("svg path")) > 2
        assert "Vega visualization" not in chart.get_attribute("aria-label")
    colors = {tuple(pixel) for pixel in _pixels(opened.page.query_selector(".chart").screenshot())}
    assert {(0, 114, 178), (213, 94, 0)} <= colors  # the lines of train and val


@pytest.mark.slow
def test_the_charts_axis_and_the_tables_order_follow_the_reader(run: RunFolder, browse: Callable[..., Any]) -> None:
    page = browse(write_report(run)).page

    def label() -> str:
        return str(page.query_selector(".chart .role-axis-label").text_content())

    by_step = label()
    page.locator(".chart").first.get_by_role("radio", name="epoch").check()
    assert label() != by_step

    column = page.locator("#errors table", has_text="share of the true class").locator("thead th").nth(2)
    cells = page.locator("#errors table", has_text="share of the true class").locator("tbody tr td:nth-child(3)")
    column.get_by_role("button").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert column.get_attribute("aria-sort") == "ascending"
    counts = [int(text) for text in cells.all_text_contents()]
    assert counts == sorted(counts)
    page.keyboard.press("Enter")
    assert [int(text) for text in cells.all_text_contents()] == sorted(counts, reverse=True)


@pytest.mark.slow
def test_pointing_at_a_chart_shows_its_values(run: RunFolder, browse: Callable[..., Any]) -> None:
    page = browse(write_report(run)).page
    page.locator(".chart").first.locator(".mark-symbol path").first.hover(force=True)
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert "step" in page.query_selector("#vg-tooltip-element").text_content()


def test_the_page_shows_the_numbers_of_the_records(run: RunFolder) -> None:
    text = run_page(run).html()
    summary = json.loads(run.summary.read_text())
    for name in ("val/top1", "test/top1"):
        assert f"<dd>{summary[name]:.2%}</dd>" in text
    assert f"{summary['parameters']:,}" in text
    with (run.path / "confusion_matrix.csv").open(newline="") as file:
        _, *rows = csv.reader(file)
    right = sum(int(row[1 + index]) for index, row in enumerate(rows))
    assert right / summary["images"]["test"] == pytest.approx(summary["test/top1"])
    assert f"{right} of {summary['images']['test']} on the diagonal" in text
    assert len(text) < 5_000_000


def test_a_failed_or_running_run_has_a_page_with_what_there_is(run: RunFolder) -> None:
    for path in (
        run.summary,
        run.mistakes,
        run.ledger_json,
        run.environment,
        run.overrides,
        run.path / "calibration.csv",
    ):
        path.unlink()
    shutil.rmtree(run.checkpoints)
    text = run_page(run).html()
    assert "not finished" in text
    assert ">Curves</h2>" in text
    assert ">Ledger</h2>" not in text
    run.metrics.unlink()
    assert ">Configuration</h2>" in run_page(run).html()


def test_names_are_text_and_not_markup(run: RunFolder) -> None:
    summary = json.loads(run.summary.read_text())
    summary["test/per_class"] = {HOSTILE: 0.5}
    run.summary.write_text(json.dumps(summary))
    rows = [["true", HOSTILE], [HOSTILE, "3"]]
    with (run.path / "confusion_matrix.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert HOSTILE not in run_page(run).html()
    assert "alert(1)" in run_page(run).html()


def test_a_run_writes_its_page_at_its_end(convoy: Callable[..., Run], tmp_path: Path) -> None:
    done = convoy("train", *TINY, "folder=other", folder=None)
    assert done.code == 0, done.err
    assert "page: other/report.html" in done.out
    assert (tmp_path / "other" / "report.html").read_text().startswith("<!doctype html>")


def test_a_page_that_cannot_be_written_does_not_fail_the_run(convoy: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "mine.py").write_text(
        "import pathlib, pytorch_lightning\n"
        "class Blocks(pytorch_lightning.Callback):\n"
        "    def on_test_end(self, trainer, module):\n"
        "        pathlib.Path('other/report.html').mkdir()\n"
    )
    (tmp_path / "conf" / "callback").mkdir()
    (tmp_path / "conf" / "callback" / "blocks.yaml").write_text("blocks:\n  _target_: mine.Blocks\n")
    words = ("--config-dir", "conf", "callback=blocks", *TINY, "folder=other")
    done = convoy("train", *words, folder=None)
    assert done.code == 0, done.err
    assert "no page: " in done.out
    assert "to write it: convoy report run=other" in done.out


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "run: must be set"),
        (("run=nothing",), "no such run"),
        (("run=run", "output=page.pdf"), "write page.pdf.html"),
        (("run=run", "output=missing/page.html"), "there is no folder missing"),
    ],
)
def test_mistakes_are_answered(convoy: Callable[..., Run], words: tuple[str, ...], message: str) -> None:
    done = convoy("report", *words, folder=None)
    assert done.code == 2
    assert message in done.err


def test_a_reduced_line_keeps_its_extremes() -> None:
    values = np.random.default_rng(0).normal(size=100_000)
    values[41_234], values[70_001] = 99, -99
    kept = reduced(values.tolist(), 1_000)
    assert len(kept) <= 1_000
    assert {0, 41_234, 70_001, 99_999} <= set(kept)
    assert kept == sorted(kept)


def test_a_matrix_of_a_thousand_classes_stays_small() -> None:
    names = [f"class {index}" for index in range(1_000)]
    matrix = np.random.default_rng(0).integers(0, 3, (1_000, 1_000))
    matrix[7, 9] = 500
    text = Page("many", "classes", [Section("Errors", confusion(names, matrix))]).html()
    assert len(text) < 5_000_000
    first = text[text.index("most frequent confusions") :]
    assert first.index("class 7<") < first.index("class 9<")
    assert ">500<" in first


def _pixels(png: bytes) -> list[tuple[int, ...]]:
    from io import BytesIO

    from PIL import Image

    return [tuple(pixel) for pixel in np.asarray(Image.open(BytesIO(png)).convert("RGB")).reshape(-1, 3).tolist()]


def test_numbers_of_tables_are_written_for_people(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("class,IoU,pixels\nsky,0.888593251,1708023\nvoid,nan,0\n3,1e-07,12\n")
    (table,) = task_tables(tmp_path, {"classes": "table"})
    texts = [[cell.text for cell in row] for row in table.rows]
    assert texts == [["sky", "0.8886", "1,708,023"], ["void", "–", "0"], ["3", "1e-07", "12"]]
    (chart,) = per_target({"test/iou_per_class": {"sky": 0.5, "void": None}})
    assert chart.title == "IoU per class, test"
    assert chart.chart.rows[0][1].text == "50.00%"
