"""Index of the runs: as fast as it is right, and never in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from convoy.runs import run_index
from convoy.runs.records import Monitor
from convoy.runs.run_facts import ConfigFacts, RunFacts, read_facts, size_of
from convoy.runs.run_index import INDEX, read_runs

CONFIG = """\
model:
  name: {model}
  layers:
  - CONV3-8
data: {{name: digits}}
tags:
- a
task:
  _target_: convoy.tasks.classification.Classification
  monitor: val/top1
  mode: max
  percent: [top1]
name: net
"""
ENVIRONMENT = {"format": 2, "started": "2026-01-02T03:04:05+00:00"}


def make_run(folder: Path, model: str = "vgg16", status: str | None = "finished", age_s: float = 86400) -> Path:
    """Write the files of a run that last changed some time ago."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG.format(model=model))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (folder / "metrics.csv").write_text("step,epoch,val/top1\n5,1,0.5\n10,2,0.75\n")
    if status is not None:
        summary = {"status": status, "steps": 10, "epochs": 2.0, "val/top1": 0.75, "best_step": 10}
        (folder / "summary.json").write_text(json.dumps(summary))
    set_age(folder, age_s)
    return folder


def set_age(folder: Path, age_s: float) -> None:
    for path in (*folder.rglob("*"), folder):
        time = path.stat().st_mtime - age_s
        os.utime(path, (time, time))


def test_facts_are_those_of_the_files(tmp_path: Path) -> None:
    facts = read_facts(make_run(tmp_path / "run"), "run")
    config = ConfigFacts("net", "classification", "vgg16", "digits", Monitor("val/top1", "max", frozenset({"top1"})))
    size = sum(path.stat().st_size for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert facts == RunFacts("run", config, "finished", 2.0, 0.75, ENVIRONMENT["started"], size)
    assert RunFacts.from_row(json.loads(json.dumps(facts.as_row()))) == facts


def test_a_run_without_a_summary_has_the_facts_of_its_metrics(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", status=None)
    assert (read_facts(folder, "run").status, read_facts(folder, "run").best) == (None, 0.75)
    (folder / "metrics.csv").write_text("step,epoch,val/top1\n5,1,nan\n10,x,0.y")
    assert (read_facts(folder, "run").epoch, read_facts(folder, "run").best) == (1.0, None)


def test_a_summary_counts_until_the_run_goes_beyond_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert read_facts(folder, "run").status == "finished"
    with (folder / "metrics.csv").open("a") as file:
        file.write("15,3,0.8\n")
    facts = read_facts(folder, "run")
    assert (facts.status, facts.epoch, facts.best) == (None, 3.0, 0.8)


def test_a_file_with_two_names_counts_once_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "big").write_bytes(bytes(10_000))
    (tmp_path / "run" / "best.ckpt").write_bytes(bytes(500))
    os.link(tmp_path / "run" / "best.ckpt", tmp_path / "run" / "last.ckpt")
    (tmp_path / "run" / "link").symlink_to(tmp_path / "big")
    assert size_of(tmp_path / "run") == 500 + (tmp_path / "run" / "link").lstat().st_size


def test_runs_are_found_where_commands_write_them_and_folders_that_are_no_runs_are_not(tmp_path: Path) -> None:
    for path in ("a", "net/1", "sweeps/2026/0_seed=1", "sweeps/2026/1_seed=2"):
        make_run(tmp_path / path)
    make_run(tmp_path / "net" / "1" / "inner")
    (tmp_path / "submitted" / "job").mkdir(parents=True)
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "config.yaml").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    found = [facts.path for facts in read_runs(tmp_path) if not facts.path.startswith("loop")]
    assert found == ["a", "net/1", "sweeps/2026/0_seed=1", "sweeps/2026/1_seed=2"]
    assert read_runs(tmp_path / "nowhere") == []


def test_unchanged_runs_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        make_run(tmp_path / "net" / str(number))
    first = read_runs(tmp_path)
    read: list[str] = []

    def counted(folder: Path, path: str) -> RunFacts:
        read.append(path)
        return read_facts(folder, path)

    monkeypatch.setattr(run_index, "read_facts", counted)
    assert read_runs(tmp_path) == first
    assert read == []
    with (tmp_path / "net" / "1" / "metrics.csv").open("a") as file:
        file.write("15,3,0.9\n")
    assert read_runs(tmp_path)[1].best == 0.9
    assert read == ["net/1"]
    (tmp_path / "net" / "2" / "config.yaml").unlink()
    make_run(tmp_path / "net" / "3", model="lenet5")
    assert [facts.config.model for facts in read_runs(tmp_path)] == ["vgg16", "vgg16", "lenet5"]


def test_a_run_that_has_just_changed_is_read_each_time(tmp_path: Path) -> None:
    """A second change within the clock's resolution would leave the same time."""
    make_run(tmp_path / "net" / "1", age_s=0)
    read_runs(tmp_path)
    assert "net/1" not in (tmp_path / INDEX).read_text() if (tmp_path / INDEX).exists() else True


@pytest.mark.parametrize("damage", ["", "{", "convoy runs 1 00000000\n{}", "cut", "flipped", "other version", "types"])
def test_a_damaged_index_is_built_again(tmp_path: Path, damage: str, capfd: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "net" / "1")
    expected, index = read_runs(tmp_path), tmp_path / INDEX
    whole = index.read_bytes()
    content = {
        "cut": whole[:-20],
        "flipped": whole.replace(b"vgg16", b"vgg19"),
        "other version": whole.replace(b"runs 1 ", b"runs 0 "),
    }.get(damage, damage.encode())
    if damage == "types":
        body = b'{"net/1": [[1], 2]}'
        content = run_index._head(body) + b"\n" + body
    index.write_bytes(content)
    assert read_runs(tmp_path) == expected
    assert index.read_bytes() == whole
    assert capfd.readouterr() == ("", "")


def test_an_output_root_that_can_not_be_written_is_listed(tmp_path: Path) -> None:
    make_run(tmp_path / "root" / "net" / "1")
    # A folder in the place of the index can't be replaced by a file, not even by root.
    (tmp_path / "root" / INDEX / "x").mkdir(parents=True)
    assert [facts.path for facts in read_runs(tmp_path / "root")] == ["net/1"]
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == [INDEX, "net"]


def test_several_processes_list_at_the_same_time(tmp_path: Path) -> None:
    for number in range(50):
        make_run(tmp_path / "net" / f"{number:02}")
    code = "import sys\nfrom pathlib import Path\nfrom convoy.runs.run_index import INDEX, read_runs\n"
    code += "for _ in range(20):\n    found = len(read_runs(Path(sys.argv[1])))\n"
    code += "    Path(sys.argv[1], INDEX).unlink(missing_ok=True)\n    assert found == 50, found\n"
    with ThreadPoolExecutor(4) as pool:
        ended = list(
            pool.map(
                lambda _: subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True),
                range(4),
            )
        )
    assert [one.returncode for one in ended] == [0] * 4, ended
    assert len(read_runs(tmp_path)) == 50
    assert sorted(path.name for path in tmp_path.iterdir()) == [INDEX, "net"]
