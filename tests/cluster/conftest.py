"""Fixtures for jobs in a real Slurm on this host, trained on the CPU; the nodes' cards are simulated."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.cluster.slurm_host import SlurmHost, running, why_not
from tests.conftest import Run, read_rows

from convoy.commands.main import main

SOURCE = Path(__file__).resolve().parents[2] / "src"

HERE = (f"cluster.python={sys.executable}", "cluster.setup=[]")
"""Overrides that replace the Python of the shipped cluster file by this machine's."""

SMALL = (
    "logger=csv",
    "model.layers=[CONV3-8,POOL4,DROPOUT0.3,FC-32,FC-10]",
    "trainer.max_epochs=2",
    "trainer.log_every_steps=4",
    "trainer.precision=32",
    "hardware.accelerator=cpu",
    "hardware.cpu_threads=1",
)
"""Overrides for a short training of digits on the CPU, which replaces the card."""

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")


@pytest.fixture(scope="session")
def slurm_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmHost]:
    reason = why_not()
    if reason:
        pytest.skip(f"no Slurm here: {reason}")
    with running(tmp_path_factory.mktemp("slurm") / "host") as host:
        yield host


@dataclass(frozen=True)
class Site:
    """A user's folder on the cluster with slurm/ and outputs/, the working directory of the test."""

    host: SlurmHost
    path: Path

    def sbatch(self, script: str, *overrides: str, options: Sequence[str] = ()) -> str:
        """Submit a script of slurm/ as a user would, and return the job's id."""
        words = ["sbatch", "--parsable", *options, f"slurm/{script}.sbatch", *overrides]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def folder(self, job_id: str) -> Path:
        """Return the run folder, which the job creates."""
        found = [*self.path.glob(f"outputs/*/slurm-{job_id}"), *self.path.glob(f"outputs/sweeps/slurm-{job_id}")]
        return found[0] if found else self.path / "outputs" / "none"

    def log(self, job_id: str) -> str:
        files = [*self.path.glob(f"outputs/*-{job_id}.log"), *self.path.glob(f"outputs/submitted/*/{job_id}*.log")]
        return "".join(path.read_text(errors="replace") for path in files)

    def wait_until(self, is_so: Callable[[], bool], job_id: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, f"{self.host.job(job_id)}\n{self.log(job_id)}"
            time.sleep(0.05)

    def wait_for(self, job_id: str, seconds: float = 120) -> str:
        """Wait for a job's end and return its state."""
        self.wait_until(lambda: self.host.state(job_id) in ENDED, job_id, seconds)
        return self.host.state(job_id)

    def wait_for_step(self, job_id: str, step: int, seconds: float = 60) -> None:
        """Wait until metrics.csv has a row of that step, or the job has ended before it."""
        self.wait_until(lambda: self.step(job_id) >= step or self.host.state(job_id) in ENDED, job_id, seconds)

    def step(self, job_id: str) -> int:
        try:
            rows = read_rows(self.folder(job_id))
        except OSError:
            return 0
        return max((int(row["step"]) for row in rows if (row["step"] or "").isdigit()), default=0)

    def run(self, job_id: str) -> Run:
        """Return the run of a job, with its log as output."""
        return Run(0, self.log(job_id), "", self.folder(job_id))

    def claim(self, job_id: str) -> dict[str, Any]:
        return dict(json.loads((self.folder(job_id) / "slurm" / "job.json").read_text()))


@pytest.fixture
def site(slurm_host: SlurmHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    yield from site_of(slurm_host, tmp_path, monkeypatch)


def site_of(host: SlurmHost, path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Yield a site of a cluster, and end the jobs that are left."""
    environment = {**host.environment, "PYTHONPATH": str(SOURCE), "SBATCH_ACCOUNT": "class_1246"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name in [name for name in os.environ if re.match(r"SLURM_(?!CONF)|SRUN_", name)]:
        monkeypatch.delenv(name)
    assert main(["slurm", "render", *HERE]) == 0
    (path / "outputs").mkdir()
    yield Site(host, path)
    host.call("scancel", "--user=root")
    host.wait(lambda: not host.call("squeue", "--noheader").strip(), 60, "jobs don't end")
