"""convoy runs and its actions, on runs that were trained and on folders that stand for them."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from tests.conftest import TINY, Run, command
from tests.runs.test_cleaning import make_finished
from tests.runs.test_run_index import make_run
from tests.test_pages import commands_of

from convoy.report.run_table import age_text, size_text
from convoy.runs.lock import RunLock

LONG = "2026-01-02_03-04-05-0123ab"


def rows(done: Run) -> list[dict[str, str]]:
    assert done.code == 0, done.err
    return list(csv.DictReader(StringIO(done.out)))


def test_states_follow_from_lock_and_records(convoy: Callable[..., Run]) -> None:
    for status in ("finished", "stopped", "not finite"):
        make_run(Path("outputs/net") / status.replace(" ", "-"), status=status)
    for name in ("running", "killed"):
        make_run(Path("outputs/net") / name, status=None)
    lock = RunLock(Path("outputs/net/running").absolute())
    lock.acquire()
    found = {row["run"].partition("/")[2]: row["state"] for row in rows(convoy("runs", "format=csv"))}
    lock.release()
    expected = {"finished": "finished", "stopped": "stopped", "not-finite": "failed", "killed": "failed"}
    assert found == {**expected, "running": "running"}


def test_filters_and_orders(convoy: Callable[..., Run]) -> None:
    make_run(Path("outputs/net/1"), model="vgg16")
    make_run(Path("outputs/net/2"), model="resnet18", status="stopped")
    make_run(Path("outputs/other") / LONG, model="resnet50", status=None)
    summary = json.loads(Path("outputs/net/1/summary.json").read_text())
    Path("outputs/net/1/summary.json").write_text(json.dumps({**summary, "val/top1": 0.9}))

    def listed(*words: str) -> list[str]:
        return [row["run"] for row in rows(convoy("runs", "format=csv", *words))]

    assert listed("model=resnet*") == ["net/2", f"other/{LONG}"]
    assert listed("model=resnet*", "state=stopped,finished") == ["net/2"]
    assert listed("model=vgg16,resnet18", "sort=model") == ["net/2", "net/1"]
    assert listed("sort=best", "limit=1") == ["net/1"]
    assert listed("net/*") == listed("net") == ["net/1", "net/2"]
    assert listed("0123ab") == listed(f"other/{LONG}") == [f"other/{LONG}"]
    assert listed("older_days=1") == ["net/1", "net/2", f"other/{LONG}"]
    assert listed("older_days=100000") == listed("task=regression") == listed("data=mnist") == []
    assert convoy("runs", "state=finish").err == "error: state=finish: no such state; did you mean finished?\n"
    assert convoy("runs", "output_root=nowhere").out == "no such runs under nowhere\n"
    done = convoy("runs", "shwo")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: runs=shwo: there is no such run under outputs; did you mean convoy runs show?\n"
    # The run that exists does not hide the word that is none.
    assert "error: runs=delete: there is no such run under outputs; convoy runs" in convoy("runs", "delete", "net").err
    assert convoy("runs", "clean", "nte", "state=failed").code == 2


def test_the_table_fits_eighty_columns_and_keeps_what_names_a_run(tmp_path: Path) -> None:
    """On a terminal of 80 columns, with a run of each task."""
    make_run(tmp_path / "outputs" / "a_long_name_of_a_run" / LONG, model="mobilenet_v3_large")
    other = make_run(tmp_path / "outputs" / "net" / "1", status=None)
    text = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("classification.Classification", "regression.Regression"))
    shown = on_terminal(tmp_path, "runs")
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "0123ab  finished  " in shown
    assert "75.00%" in shown


def on_terminal(folder: Path, *words: str) -> str:
    main_end, child_end = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(command(words), cwd=folder, stdout=child_end, env=environment) as process:
        os.close(child_end)
        found = b""
        while True:
            try:
                found += os.read(main_end, 4096)
            except OSError:  # the other end is closed
                break
        assert process.wait() == 0
    os.close(main_end)
    return found.decode().replace("\r\n", "\n")


def test_formats_have_the_same_runs(convoy: Callable[..., Run]) -> None:
    make_run(Path("outputs/net/1"))
    (found,) = json.loads(convoy("runs", "format=json").out)
    assert (found["run"], found["best"], found["monitor"], found["epoch"]) == ("net/1", 0.75, "val/top1", 2.0)
    (row,) = rows(convoy("runs", "format=csv"))
    assert row == {name: "" if value is None else str(value) for name, value in found.items()} | {"age_s": row["age_s"]}
    assert "| net/1 | finished | classification | vgg16 | digits | top1 75.00% | 2 |" in convoy("runs", "format=md").out


def test_figures_are_short() -> None:
    assert [size_text(count) for count in (0, 999, 2048, 10 * 1024, 5 * 2**30)] == ["0B", "999B", "2.0K", "10K", "5.0G"]
    assert [age_text(age) for age in (None, 5, 90, 7200, 864000)] == ["–", "5s", "2m", "2h", "10d"]


def test_a_list_imports_neither_torch_nor_hydra(tmp_path: Path) -> None:
    make_run(tmp_path / "outputs" / "net" / "1")
    for words in (["runs"], ["runs", "clean"], ["runs", "--help"]):
        code = f"import sys\nfrom convoy.commands.main import main\nmain({words!r})\n"
        code += "print(*{'torch', 'hydra', 'numpy', 'pandas'} & set(sys.modules), file=sys.stderr)"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stderr == "\n"


@pytest.mark.parametrize("kind", ["terminal", "pipe"])
def test_watching_shows_changes_and_ends_by_ctrl_c_with_zero(tmp_path: Path, kind: str) -> None:
    make_run(tmp_path / "outputs" / "net" / "1", model="vgg16")
    main_end, child_end = pty.openpty() if kind == "terminal" else os.pipe()
    words = command(["runs", "--watch", "every_s=0.1"])
    environment = {**os.environ, "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(words, cwd=tmp_path, stdout=child_end, stderr=subprocess.PIPE, env=environment) as process:
        os.close(child_end)
        seen = b""
        while b"vgg16" not in seen:
            seen += os.read(main_end, 4096)
        make_run(tmp_path / "outputs" / "net" / "2", model="resnet18", status="stopped")
        while b"stopped" not in seen:
            seen += os.read(main_end, 4096)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait() == 0
    os.close(main_end)


def test_a_run_is_shown_with_its_command(convoy: Callable[..., Run]) -> None:
    words = ("model=lenet5", "optimizer=adamw", "logger=csv", "trainer.gpus=0", "trainer.max_steps=2", "name=mine")
    assert convoy("train", *words, "trainer.precision=32", folder=None).code == 0
    assert convoy("train", "resume=latest", "trainer.max_steps=3", folder=None).code == 0
    text = convoy("runs", "show", "mine").out
    assert "finished" in text
    assert re.search(r"trainer\.max_steps +3 +default null", text)
    assert "optimizer.lr" not in text  # a default of optimizer=adamw
    assert re.search(r"checkpoints/best\.ckpt +\d", text)
    shown = json.loads(convoy("runs", "show", "latest", "format=json").out)
    assert shown["config"]["trainer.max_steps"] == ["3", "null"]
    assert convoy(*shlex.split(shown["command"])[1:], folder=None).code == 0
    again = json.loads(convoy("runs", "show", "latest", "format=json").out)
    assert again["run"] != shown["run"]
    assert again["config"] == shown["config"]


def test_a_run_without_records_is_shown(convoy: Callable[..., Run]) -> None:
    make_run(Path("outputs/net/1"), status=None)
    done = convoy("runs", "show", "outputs/net/1")
    assert done.code == 0, done.err
    assert "none yet" in done.out


def test_a_difference_has_both_values(convoy: Callable[..., Run]) -> None:
    words = (*TINY, "trainer.max_steps=2", "model.layers=[GAP,FC-10]")
    for seed in (1, 2):
        assert convoy("train", *words, f"seed={seed}", folder=f"outputs/{seed}").code == 0
    found = json.loads(convoy("runs", "diff", "1", "2", "format=json").out)
    assert found["config"] == {"seed": ["1", "2"]}
    assert "val/loss" in found["result"]
    text = convoy("runs", "diff", "1", "2").out
    assert re.search(r"^seed +1 +2 *$", text, re.MULTILINE)
    assert ["config", "seed", "1", "2"] in list(
        csv.reader(StringIO(convoy("runs", "diff", "1", "2", "format=csv").out))
    )
    assert convoy("runs", "diff", "1", "1").out == "the runs do not differ\n"
    assert convoy("runs", "diff", "1").err == "error: runs=1: must be two; convoy runs diff <run> <run>\n"


def test_cleaning_lists_first_and_removes_with_yes(convoy: Callable[..., Run]) -> None:
    make_run(Path("outputs/net/failed"), status=None)
    make_finished(Path("outputs/net/finished"))
    held = make_run(Path("outputs/net/held"), status=None)
    lock = RunLock(held.absolute())
    lock.acquire()
    listed = convoy("runs", "clean").out
    assert re.search(r"the folder +net/failed\n", listed)
    assert re.search(r"last\.ckpt +net/finished\n", listed)
    assert re.search(r"bytes \(.*\) in 2; --yes removes them", listed)
    assert Path("outputs/net/failed").is_dir()
    assert "in 1;" in convoy("runs", "clean", "state=finished").out
    done = convoy("runs", "clean", "--yes")
    lock.release()
    assert done.code == 0, done.err
    assert sorted(path.name for path in Path("outputs/net").iterdir()) == ["finished", "held"]
    assert convoy("runs", "clean", "--yes").out == "nothing to remove under outputs\n"
    refused = convoy("train", "resume=outputs/net/finished", folder=None)
    assert "has no last.ckpt, which convoy runs clean removes; start a new run from its weights" in refused.err


def test_the_page_on_runs(convoy: Callable[..., Run]) -> None:
    for _ in range(2):
        assert convoy("train", *TINY, "trainer.max_steps=2", folder=None).code == 0
    for line in commands_of("runs.md"):
        done = convoy(*shlex.split(line)[1:], folder=None)
        assert done.code == 0, f"{line}: {done.err}"
