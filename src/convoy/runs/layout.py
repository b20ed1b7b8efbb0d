"""Layout of a run's folder, and lookup of runs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from convoy.config.faults import Fault, UserError
from convoy.runs.whole_files import append_text, replace_text

_LIBRARIES = ("convoy", "torch", "torchvision", "timm", "pytorch-lightning", "torchmetrics", "hydra-core")

FORMAT = 2
"""Version of a run's folder and of its checkpoints. Other versions are refused."""

EXPORT_SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "torch_export": ".pt2"}
"""Formats of exported files and the suffixes of their names."""


def new_name() -> str:
    """Return a name for a new folder: the time, and six random characters, since two may begin in the same second."""
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{os.urandom(3).hex()}"


@dataclass(frozen=True)
class RunFolder:
    """`outputs/<name>/<date_time-id>/` and its files."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def overrides(self) -> Path:
        """Overrides from the command line, one line per start of the run."""
        return self.path / "overrides.yaml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def ledger_csv(self) -> Path:
        """Memory and parameters layer by layer."""
        return self.path / "ledger.csv"

    @property
    def ledger_json(self) -> Path:
        """Memory and parameters layer by layer, with the totals and the convention."""
        return self.path / "ledger.json"

    @property
    def norms(self) -> Path:
        """Norms of weights and gradients per layer, if ledger.norms_every_steps is set."""
        return self.path / "norms.csv"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def log(self) -> Path:
        return self.path / "run.log"

    @property
    def debug_log(self) -> Path:
        """Messages of the libraries."""
        return self.path / "debug.log"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        return self.checkpoints / "best.ckpt"

    @property
    def last(self) -> Path:
        return self.checkpoints / "last.ckpt"

    @property
    def lightning(self) -> Path:
        """Files that Lightning's callbacks write if they are given no folder, apart from Convoy's checkpoints."""
        return self.path / "lightning"

    @property
    def report(self) -> Path:
        """Page of the run."""
        return self.path / "report.html"

    @property
    def mistakes(self) -> Path:
        """Images of the test with the worst predictions."""
        return self.path / "mistakes.json"

    @property
    def wandb_id(self) -> Path:
        """Id of the W&B run, with which a resumed run continues its record."""
        return self.path / "wandb_id.txt"

    def saved_config(self) -> dict[str, Any]:
        """Return the saved config of the run.

        Raises:
            UserError: if the file is missing or can't be read, or the run has another format.
        """
        saved = read_saved(self.config)
        check_format(read_json(self.environment).get("format"), str(self.path), "run")
        return saved


def check_format(found: Any, where: str, key: str) -> None:
    """Raise if a run or file has another format than this version of Convoy reads.

    Args:
        found: version in the file; None if there is none.
        where: the folder or file.
        key: setting of the run or file, for the error.

    Raises:
        UserError: if the formats differ.
    """
    if found != FORMAT:
        version = "an early version" if found is None else f"format {found}"
        rule = f"was written by {version} of Convoy; this version reads format {FORMAT}"
        raise UserError(Fault(key, rule, "train it again, or use the version that wrote it", where))


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping of a JSON file; empty if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_saved(path: Path) -> dict[str, Any]:
    """Return a config.yaml as plain containers.

    Raises:
        UserError: the file is missing or can't be read.
    """
    try:
        saved = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        remedy = "name a folder that convoy train wrote"
        raise UserError(Fault("run", f"has no {path.name}", remedy, str(path.parent))) from None
    except (OSError, yaml.YAMLError) as error:
        raise UserError(Fault("run", f"{path.name} can't be read: {error}", "", str(path.parent))) from error
    if not isinstance(saved, dict):
        raise UserError(Fault("run", f"{path.name} is not a config", "", str(path)))
    return saved


def create(output_root: Path, name: str, folder: str | None, *, claimed: bool = False) -> RunFolder:
    """Create the folder of a new run.

    Args:
        output_root: folder of all runs.
        name: name of the run.
        folder: folder of the run; None for `<output_root>/<name>/<date_time-id>`.
        claimed: whether this process's Slurm job owns `folder`, even if it contains files of an earlier start. Any
            other folder that exists and isn't empty belongs to another run.

    Raises:
        UserError: if `folder` is not empty, or can't be written.
    """
    if folder is not None:
        path = Path(folder)
        if path.is_file():
            raise UserError(Fault("folder", "is a file", "choose another folder", folder))
        if not claimed and path.exists() and (not path.is_dir() or any(path.iterdir())):
            remedy = f"choose another, or write resume={folder} to resume the run in it"
            raise UserError(Fault("folder", "is not empty", remedy, folder))
    else:
        path = output_root / name / new_name()
    run = RunFolder(path.absolute())
    try:
        run.checkpoints.mkdir(parents=True, exist_ok=claimed)
    except OSError as error:
        key = "folder" if folder is not None else "output_root"
        raise UserError(
            Fault(key, f"can't be written ({error.strerror})", "choose another folder", str(path))
        ) from error
    return run


def write_start(run: RunFolder, config_yaml: str, overrides: list[str], machine: Mapping[str, Any]) -> None:
    """Write config.yaml, environment.json and one more line of overrides.yaml: once for each start of a run.

    Args:
        run: folder of the run.
        config_yaml: content of config.yaml.
        overrides: overrides of the command line.
        machine: record of the machine (`runtime/machine_record.py`).
    """
    replace_text(run.config, config_yaml)
    append_text(run.overrides, f"- {json.dumps(overrides, ensure_ascii=False)}\n")
    environment = {**describe_environment(), "machine": machine}
    replace_text(run.environment, json.dumps(environment, indent=2) + "\n")


def shown(path: Path) -> str:
    """Return a path relative to the working folder, if it is inside."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def describe_environment() -> dict[str, Any]:
    """Return versions, machine, command and commit of the code: all influences on a run besides its config."""
    import torch

    return {
        "format": FORMAT,
        "command": sys.argv,
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpu_cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "versions": {name: _version(name) for name in _LIBRARIES},
        "git": git_state(Path(__file__).resolve().parent),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return the commit of the checkout that contains `folder` and whether it is clean; None outside of a checkout."""
    try:
        commit, status = (
            subprocess.run(
                ["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=10, check=True
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "clean": not status}


def _version(name: str) -> str | None:
    from importlib import metadata  # imported here, since it takes a tenth of the time in which a mistake is answered

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
