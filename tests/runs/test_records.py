"""Readers of a run's records: a missing value stays missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from convoy.runs.records import Monitor, progress, read_monitor, read_summary

CONFIG = "task: {monitor: val/f1, mode: max, percent: [f1]}\n"


def test_progress_is_that_of_the_monitored_metric(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "metrics.csv").write_text("step,epoch,val/f1,val/loss\n5,1,0.5,2.0\n10,2,0.7,1.0\n15,3,0.6,3.0\n")
    monitor = read_monitor(tmp_path / "config.yaml")
    assert monitor == Monitor("val/f1", "max", frozenset({"f1"}))
    assert progress(tmp_path / "metrics.csv", monitor) == ("3", 0.7)


@pytest.mark.parametrize("text", [None, "task: {mode: max}\n", "[1, 2", "- a\n", ""])
def test_an_unreadable_config_has_no_monitored_metric(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "metrics.csv").write_text("step,epoch,val/loss\n5,1,2.0\n")
    monitor = read_monitor(tmp_path / "config.yaml")
    assert monitor is None
    assert progress(tmp_path / "metrics.csv", monitor) == ("1", None)


@pytest.mark.parametrize("text", [None, "{", "[1]"])
def test_an_unreadable_summary_is_empty(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "summary.json").write_text(text)
    assert read_summary(tmp_path / "summary.json") == {}
