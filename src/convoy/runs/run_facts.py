"""Facts of a run for tables and filters, read from the files of its folder. Imports no torch."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from convoy.runs.layout import RunFolder, read_json
from convoy.runs.records import Monitor, last_step, progress, read_summary

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SECTION = re.compile(r"^(?=[a-z_]+:)", re.MULTILINE)
_READ = ("model", "data", "task", "name")
"""Sections of a config.yaml that are read. Parsing the whole file takes ten times as long."""


@dataclass(frozen=True)
class ConfigFacts:
    """Facts of a run's config; a name that can't be read is a dash.

    Attributes:
        name: name of the run.
        task: such as `classification`, or the class of a task of the user.
        model: name of the model.
        data: name of the data set.
        monitor: monitored metric; None if it can't be read.
    """

    name: str = "–"
    task: str = "–"
    model: str = "–"
    data: str = "–"
    monitor: Monitor | None = None


@dataclass(frozen=True)
class RunFacts:
    """Facts of a run that change only when its files change.

    Attributes:
        path: folder, relative to the output root if it is below it.
        config: facts of its config.
        status: status in summary.json; None if the run has no summary, or has continued after writing it.
        epoch: epochs of training; None before the first.
        best: best value of the monitored metric.
        started: time of the last start in ISO 8601; empty if unknown.
        size_bytes: size of all files; a file with several names counts once.
        has_checkpoint: whether best.ckpt or last.ckpt exists.
        job_id: Slurm job that has claimed the folder.
    """

    path: str
    config: ConfigFacts
    status: str | None = None
    epoch: float | None = None
    best: float | None = None
    started: str = ""
    size_bytes: int = 0
    has_checkpoint: bool = False
    job_id: str | None = None

    def as_row(self) -> list[Any]:
        """Return plain values for JSON."""
        config, monitor = self.config, self.config.monitor
        monitored = None if monitor is None else [monitor.name, monitor.mode, sorted(monitor.percent)]
        mine = (self.status, self.epoch, self.best, self.started, self.size_bytes, self.has_checkpoint, self.job_id)
        return [self.path, [config.name, config.task, config.model, config.data, monitored], *mine]

    @staticmethod
    def from_row(row: Sequence[Any]) -> RunFacts:
        """Return the facts of `as_row`."""
        path, (*config, monitored), *mine = row
        monitor = None if monitored is None else Monitor(monitored[0], monitored[1], frozenset(monitored[2]))
        name, task, model, data = config
        return RunFacts(path, ConfigFacts(name, task, model, data, monitor), *mine)


def is_run(folder: str) -> bool:
    """Return whether a folder has the files that each start of a run writes."""
    return os.path.isfile(f"{folder}/config.yaml") and os.path.isfile(f"{folder}/environment.json")  # noqa: PTH113


def read_facts(folder: Path, path: str) -> RunFacts:
    """Read the facts of a run.

    Args:
        folder: folder of the run.
        path: name of the folder in tables.
    """
    run = RunFolder(folder)
    config = read_config_facts(run.config)
    summary = read_summary(run.summary)
    steps = summary.get("steps")
    if isinstance(steps, int) and (last_step(run.metrics) or 0) > steps:
        summary = {}  # a later start has continued the run, and ended without a summary
    epoch, best = _progress(summary, run.metrics, config.monitor)
    return RunFacts(
        path=path,
        config=config,
        status=str(summary["status"]) if "status" in summary else None,
        epoch=epoch,
        best=best,
        started=str(read_json(run.environment).get("started", "")),
        size_bytes=size_of(folder),
        has_checkpoint=run.best.is_file() or run.last.is_file(),
        job_id=_job_id(folder),
    )


def read_config_facts(path: Path) -> ConfigFacts:
    """Read the facts of a config.yaml."""
    try:
        text = path.read_text(encoding="utf-8")
        parts = [part for part in _SECTION.split(text) if part.partition(":")[0] in _READ]
        content = yaml.load("".join(parts), _Loader)
    except (OSError, ValueError, yaml.YAMLError):
        return ConfigFacts()
    if not isinstance(content, dict):
        return ConfigFacts()
    model, data, task = (_mapping(content.get(key)) for key in ("model", "data", "task"))
    monitor = None
    if "monitor" in task and "mode" in task:
        monitor = Monitor(str(task["monitor"]), str(task["mode"]), frozenset(map(str, task.get("percent") or ())))
    return ConfigFacts(
        name=str(content.get("name", "–")),
        task=_task_name(str(task.get("_target_", "–"))),
        model=str(model.get("name", "–")),
        data=str(data.get("name", "–")),
        monitor=monitor,
    )


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder, without following links; a file with several names counts once."""
    total, seen, folders = 0, set(), [os.fspath(folder)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    continue
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if status.st_nlink > 1 and (status.st_dev, status.st_ino) in seen:
                        continue
                    seen.add((status.st_dev, status.st_ino))
                    total += status.st_size
    return total


def _progress(summary: Mapping[str, Any], metrics: Path, monitor: Monitor | None) -> tuple[float | None, float | None]:
    """Return the last epoch and the best value, from the summary if there is one, which is much shorter."""
    best = summary.get(monitor.name) if monitor else None
    if "epochs" in summary and (monitor is None or isinstance(best, int | float)):
        return _finite(summary["epochs"]), _finite(best)
    try:
        epoch, best = progress(metrics, monitor)
    except ValueError:  # a damaged file
        return None, None
    return _finite(epoch), _finite(best)


def _finite(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _job_id(folder: Path) -> str | None:
    job_id = read_json(folder / "slurm" / "job.json").get("job_id")
    return None if job_id is None else str(job_id)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _task_name(target: str) -> str:
    parts = target.split(".")
    return parts[-2] if target.startswith("convoy.tasks.") and len(parts) > 2 else parts[-1]
