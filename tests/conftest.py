"""Real runs in a folder of their own: in this process where that will do, as a command where it won't."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from convoy.config.trust import TRUST, Trust

TINY = (
    "logger=csv",
    "model.layers=[CONV3-8,POOL4,DROPOUT0.3,FC-32,FC-10]",
    "trainer.gpus=0",
    "trainer.precision=32",
    "trainer.max_epochs=2",
    "trainer.log_every_steps=3",
    "hardware.cpu_threads=1",
)
"""A network that learns something of digits in a second."""

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

needs_fashion_mnist = pytest.mark.skipif(
    not FASHION_MNIST.is_dir(), reason=f"no Fashion-MNIST in {FASHION_MNIST}: apt-get install dataset-fashion-mnist"
)


@dataclass(frozen=True)
class Run:
    """How a command ended, what it printed, and readers of what it left."""

    code: int
    out: str
    err: str
    folder: Path

    def summary(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "summary.json").read_text()))

    def rows(self) -> list[dict[str, str]]:
        return read_rows(self.folder)

    def checkpoint(self, name: str = "last") -> dict[str, Any]:
        import torch

        return dict(torch.load(self.folder / "checkpoints" / f"{name}.ckpt", weights_only=True))


def read_rows(folder: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without the columns that a clock wrote."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [
            {name: value for name, value in row.items() if name not in ("images_per_s", "seconds", "data_wait")}
            for row in csv.DictReader(file)
        ]


def command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "convoy.commands.main", *words]


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run each test in a separate folder, without a W&B key and without targets that another test declared."""
    monkeypatch.chdir(tmp_path)
    for name, value in vars(Trust()).items():
        monkeypatch.setattr(TRUST, name, value)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_RUN_GROUP", "CONVOY_RUN_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture
def convoy(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Run]:
    """Run a verb in this process. `folder` names the run's folder for `train`."""
    from convoy.commands.main import main

    def run(*words: str, folder: str | None = "run") -> Run:
        given = [f"folder={folder}"] if folder and words[0] == "train" and not _has_own_folder(words) else []
        capfd.readouterr()
        code = main([*words, *given])
        out, err = capfd.readouterr()
        return Run(code, out, err, tmp_path / (folder or ""))

    return run


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., Run]:
    """Run a verb as a process of its own, to its end."""

    def run(*words: str, folder: str = "run", timeout: float = 300, **environment: str) -> Run:
        given = [f"folder={folder}"] if words[0] == "train" and not _has_own_folder(words) else []
        done = subprocess.run(
            command([*words, *given]),
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr, tmp_path / folder)

    return run


def _has_own_folder(words: Sequence[str]) -> bool:
    return any(word.startswith(("resume=", "folder=", "-", "output_root=")) for word in words)
