"""Runs that are forked from a prepared process, and runs that must be new processes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import TINY, read_rows

from convoy.config.options import Options
from convoy.runtime import prepared_process
from convoy.runtime.child_runs import ChildRuns, try_lock
from convoy.runtime.prepared_process import PreparedProcess

USER_MODULE = """
import json, os, signal, sys
from pathlib import Path

import __main__
import torch
from pytorch_lightning import Callback

if "KILLED" in os.environ:
    os.kill(os.getpid(), signal.SIGKILL)


def num_locks(process):
    return sum(path.resolve().name == "lock" for path in Path(f"/proc/{process}/fd").iterdir())


class Facts(Callback):
    def on_fit_start(self, trainer, module):
        parent, variables = os.getppid(), dict(os.environ)
        is_named = variables.pop("CONVOY_PARENT") == str(parent)
        shared = [sys.argv, __main__.__spec__.name, sys.path, os.getcwd(), variables, torch.get_num_threads(),
                  torch.get_num_interop_threads(), len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
                  sys.stdout.line_buffering, sys.stderr.line_buffering,
                  os.readlink("/proc/self/fd/1"), os.readlink("/proc/self/fd/2")]
        facts = {"value": VALUE, "is_named": is_named, "shared": shared, "own_locks": num_locks("self"),
                 "parent": parent, "locks_of_parent": num_locks(parent),
                 "threads_of_parent": len(os.listdir(f"/proc/{parent}/task"))}
        Path("facts.json").write_text(json.dumps(facts))
"""

WORDS = (*TINY[:-1], "hardware.cpu_threads=2", "report=false", "+callback.mine._target_=mine.Facts")


def train(children: ChildRuns, words: tuple[str, ...], environment: Mapping[str, str], log: Path) -> int:
    lock = try_lock(Path("lock"))
    assert lock is not None
    with lock:
        return children.train(words, 0, lock, environment, log)


def facts_of_run(children: ChildRuns, value: int) -> dict[str, Any]:
    Path("mine.py").write_text(USER_MODULE.replace("VALUE", str(value)))
    log = Path(f"{value}.log")
    assert train(children, (*WORDS, f"folder=run{value}"), {}, log) == 0, log.read_text()
    facts: dict[str, Any] = json.loads(Path("facts.json").read_text())
    assert facts["value"] == value
    assert facts["is_named"]
    assert facts["own_locks"] == 1
    return facts


@pytest.mark.slow
def test_a_forked_run_is_like_a_new_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two forked runs of one server, with the user's module changed between them, and a new process."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    forked: list[dict[str, Any]] = []
    codes: list[int] = []

    def work(_: int) -> None:
        forked.extend(facts_of_run(children, value) for value in (1, 2))
        codes.append(train(children, (*WORDS, "folder=run3"), {"KILLED": "1"}, Path("3.log")))
        codes.append(train(children, ("optimizer.lrr=1",), {}, Path("4.log")))

    children = ChildRuns(Options(), 1)
    children.work(work)
    assert codes == [128 + 9, 2]
    assert "optimizer.lrr=1: no such key" in Path("4.log").read_text()
    assert forked[0]["parent"] == forked[1]["parent"] != os.getpid()
    assert [facts["locks_of_parent"] for facts in forked] == [0, 0]
    assert [facts["threads_of_parent"] for facts in forked] == [1, 1]
    assert not Path(f"/proc/{forked[0]['parent']}").exists()

    for path in [*tmp_path.glob("*.log"), tmp_path / "run2"]:
        path.rename(path.with_suffix(".forked"))
    new = facts_of_run(children, 2)
    assert new["parent"] == os.getpid()
    assert new["shared"] == forked[1]["shared"]
    assert read_rows(Path("run2")) == read_rows(Path("run2.forked"))
    states = [
        torch.load(Path(run, "checkpoints/last.ckpt"), weights_only=True)["state_dict"]
        for run in ("run2", "run2.forked")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_a_run_is_a_new_process_where_none_can_be_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared_process, "__name__", "convoy.no_such_module")
    codes: list[int] = []

    def work(_: int) -> None:
        codes.extend(train(children, ("optimizer.lrr=1",), {}, Path(f"{number}.log")) for number in range(2))

    children = ChildRuns(Options(), 1)
    children.work(work)
    assert codes == [2, 2]
    assert Path("1.log").read_text().count("optimizer.lrr=1: no such key") == 1


def test_a_run_on_a_gpu_is_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(PreparedProcess, "start", lambda *_: pytest.fail("is forked"))
    codes: list[int] = []
    children = ChildRuns(Options(), 1)
    children.work(lambda _: codes.append(train(children, ("optimizer.lrr=1",), {}, Path("log"))))
    assert codes == [2]
