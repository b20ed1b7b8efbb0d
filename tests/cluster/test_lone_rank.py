"""A single rank of a job: it exits when it hangs, when it loses another rank or its folder, and reports its end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.conftest import TINY
from tests.training.test_ranks import wait_for_row
from tests.training.test_resume import LONG

from convoy.cluster.reports import read
from convoy.cluster.run_lease import take

HANGING = """
import sys, time
from convoy.training import lightning_module
step = lightning_module.TrainingModule.training_step
def hanging(self, batch, index):
    if self.trainer.global_step == 5:
        time.sleep(600)
    return step(self, batch, index)
lightning_module.TrainingModule.training_step = hanging
from convoy.commands.main import main
sys.exit(main(sys.argv[1:]))
"""


def as_rank(folder: Path, start: int, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "CONVOY_RUN_FOLDER": str(folder),
        "CONVOY_SLURM_START": str(start),
        "SLURM_JOB_ID": "77",
        **more,
    }


@pytest.mark.slow
def test_a_rank_that_hangs_prints_its_stack_and_exits(tmp_path: Path) -> None:
    folder, claim = take(tmp_path / "run", "77", "hash", 0)
    words = ["slurm", "rank", "--", *TINY, f"folder={folder.path}"]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGING, *words],
        env=as_rank(folder.path, claim.start, CONVOY_HANG_S="3"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert time.monotonic() - started < 40
    assert "Timeout (0:00:03)!" in done.stderr
    assert "in hanging" in done.stderr
    # It wrote no report, so the batch step knows that it was not a program error.
    assert not (folder.reports(claim.start) / "rank-0.json").exists()


@pytest.mark.slow
def test_a_rank_exits_when_a_later_start_has_its_folder(tmp_path: Path) -> None:
    folder, claim = take(tmp_path / "run", "77", "hash", 0)
    words = ["slurm", "rank", "--", *TINY, f"folder={folder.path}"]
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, *words],
        env=as_rank(folder.path, claim.start),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    end = time.monotonic() + 60
    while not folder.alive.exists() and time.monotonic() < end:
        time.sleep(0.05)
    take(tmp_path / "run", "77", "hash", 1)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "start 2 has taken over this run; exiting" in out


@pytest.mark.slow
def test_a_rank_reports_its_end(tmp_path: Path) -> None:
    folder, claim = take(tmp_path / "run", "77", "hash", 0)
    for word, kind, code in (("trainer.max_steps=2", "done", 0), ("trainer.max_step=2", "error", 2)):
        done = subprocess.run(
            [sys.executable, "-m", "convoy.commands.main", "slurm", "rank", "--", *TINY, word, f"folder={folder.path}"],
            env=as_rank(folder.path, claim.start),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert f'"kind": "{kind}"' in (folder.reports(claim.start) / "rank-0.json").read_text()


@pytest.mark.slow
def test_a_rank_out_of_memory_continues_as_the_same_rank(tmp_path: Path) -> None:
    driver = Path(__file__).parents[1] / "training" / "out_of_memory_driver.py"
    folder, claim = take(tmp_path / "run", "77", "hash", 0)
    words = ["slurm", "rank", "--", *TINY, f"folder={folder.path}"]
    done = subprocess.run(
        [sys.executable, str(driver), "forward", "5", "0", *words],
        env=as_rank(folder.path, claim.start),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "out of GPU memory after step 5: resuming with a micro batch of 64" in done.stdout
    assert "resuming after step 5" in done.stdout
    assert '"kind": "done"' in (folder.reports(claim.start) / "rank-0.json").read_text()


@pytest.mark.slow
def test_a_rank_that_loses_another_says_so_in_one_line_and_reports_it(tmp_path: Path) -> None:
    folder, claim = take(tmp_path / "run", "77", "hash", 0)
    words = ["slurm", "rank", "--", *LONG, "trainer.checkpoint_every_steps=3", f"folder={folder.path}"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    of_job = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "convoy.commands.main", *words, "trainer.processes=2", "trainer.max_epochs=400"],
            env=as_rank(
                folder.path,
                claim.start,
                **of_job,
                SLURM_PROCID=str(rank),
                SLURM_LOCALID=str(rank),
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT=str(port),
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    wait_for_row(ranks[0], folder.path, 48)
    ranks[1].kill()
    out, _ = ranks[0].communicate(timeout=60)
    ranks[1].communicate(timeout=60)
    assert ranks[0].returncode == 1, out
    assert "Traceback" not in out, out
    (line,) = [line for line in out.splitlines() if "to resume" in line]
    assert line.startswith("the connection to another rank is lost (")
    assert len(line) < 300
    assert "); kept: run/checkpoints/last.ckpt of step " in line
    assert line.endswith("to resume: convoy train resume=run")
    assert {rank: report.kind for rank, report in read(folder, claim.start).items()} == {0: "lost"}
