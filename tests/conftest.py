"""Fixtures for runs, in this process or as a command, and for real data."""

from __future__ import annotations

import csv
import gc
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
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
"""A network that learns the digits data set to some degree within a second."""

TEST_DATA = "CONVOY_TEST_DATA"
"""Environment variable with the folder of the archives that the `real_data` fixture unpacks."""

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

needs_fashion_mnist = pytest.mark.skipif(
    not FASHION_MNIST.is_dir(), reason=f"no Fashion-MNIST in {FASHION_MNIST}: apt-get install dataset-fashion-mnist"
)


@dataclass(frozen=True)
class Run:
    """Result of a command: exit code, output, and readers of the files it wrote."""

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
    """Return the rows of metrics.csv without the columns that hold times."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [
            {name: value for name, value in row.items() if name not in ("images_per_s", "seconds", "data_wait")}
            for row in csv.DictReader(file)
        ]


def command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "convoy.commands.main", *words]


def pytest_collection_finish() -> None:
    """Leave the modules and tests that are loaded now out of garbage collections, which take a second otherwise."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.fixture(autouse=True, scope="session")
def _default_sighup() -> None:
    """Let processes that tests start end by SIGHUP, also if the tests run under nohup."""
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Run each test in a separate folder, without a W&B key and without targets and modules of another test."""
    monkeypatch.chdir(tmp_path)
    for name, value in vars(Trust()).items():
        monkeypatch.setattr(TRUST, name, value)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT", "WANDB_RUN_GROUP", "CONVOY_RUN_FOLDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    yield
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(f"{tmp_path}/"):
            del sys.modules[name]


@pytest.fixture
def convoy(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Run]:
    """Run a command in this process. `folder` is the run folder of `train`."""
    from convoy.commands.main import main

    def run(*words: str, folder: str | None = "run") -> Run:
        given = [f"folder={folder}"] if folder and words[0] == "train" and not _has_own_folder(words) else []
        given += ["report=false"] if given else []
        capfd.readouterr()
        code = main([*words, *given])
        out, err = capfd.readouterr()
        return Run(code, out, err, tmp_path / (folder or ""))

    return run


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., Run]:
    """Run a command in a separate process and wait for its end."""

    def run(*words: str, folder: str = "run", timeout: float = 300, **environment: str) -> Run:
        given = [f"folder={folder}", "report=false"] if words[0] == "train" and not _has_own_folder(words) else []
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


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that unpacks an archive of `CONVOY_TEST_DATA` once per session and returns its folder.

    The function takes the archive's name, such as `"cifar10_jpeg"`, and optionally glob patterns of the files to
    unpack, relative to that folder; an archive of 60,000 files takes a minute without them. The test is skipped where
    the variable or the archive is missing.
    """

    @cache
    def unpack(name: str, *patterns: str) -> Path:
        root = os.environ.get(TEST_DATA)
        if not root:
            pytest.skip(f"no real data: {TEST_DATA} is not set")
        archive = Path(root) / f"{name}.tar.gz"
        if not archive.is_file():
            pytest.skip(f"no real data: {archive} does not exist")
        folder = tmp_path_factory.mktemp(name)
        with tarfile.open(archive) as file:
            members = [
                member
                for member in file
                if not patterns or any(fnmatch(member.name, f"{name}/{pattern}") for pattern in patterns)
            ]
            file.extractall(folder, members, filter="data")
        return folder / name if (folder / name).is_dir() else folder

    return unpack
