"""convoy runs show: one run in detail."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from rich.markup import escape
from rich.table import Table

from convoy.cluster.run_states import ListedRun, list_run
from convoy.commands.declaration.run_verbs import NamedRunsVerb
from convoy.config.compose import compose, to_config
from convoy.config.faults import UserError, printable
from convoy.config.options import Options
from convoy.config.overrides import parse
from convoy.report.run_table import age_s, age_text, as_data, size_text
from convoy.runs.config_differences import differences, metrics_of, without_place
from convoy.runs.layout import RunFolder, read_json, shown
from convoy.runs.records import metric_text, read_summary
from convoy.runs.run_facts import size_of
from convoy.runtime.terminal_output import console


@dataclass(frozen=True)
class RunsShow(NamedRunsVerb):
    """Show one run: result, config, command and files.

    Lists the values of the config that differ from the defaults of the chosen
    options, and the command that trains the same again. A run is named by its
    folder, its name (the newest run of that name), the last part of its folder's
    name, or latest.

      convoy runs show latest
      convoy runs show 1f0c3a format=json
    """

    format: Literal["table", "json"] = "table"
    """Format of the output."""


ARGUMENTS = RunsShow


def run(given: RunsShow) -> int:
    """Print the run."""
    (folder,) = given.folders()
    listed, now = list_run(folder.path, shown(folder.path)), time.time()
    starts = _starts(folder)
    saved = folder.saved_config()
    changed = differences(without_place(saved), _defaults(starts))
    environment = read_json(folder.environment)
    command = _command(starts, saved, environment)
    if given.format == "json":
        content = {
            **as_data(listed, now),
            "result": metrics_of(read_summary(folder.summary)),
            "config": {key: list(values) for key, values in changed.items()},
            "command": command,
            "environment": environment,
            "files": _files(folder.path),
        }
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return 0
    screen = console()
    screen.print(f"[bold]{escape(printable(listed.facts.path))}")
    screen.print(_facts(listed, environment, now))
    screen.print(_result(read_summary(folder.summary)))
    screen.print("[bold]config that differs from the defaults of its options")
    screen.print(_rows([(key, value, f"default {default}") for key, (value, default) in changed.items()]))
    screen.print(f"[bold]command\n[/bold]{escape(printable(command))}\n", soft_wrap=True)
    screen.print(f"[bold]files, {size_text(listed.facts.size_bytes)}")
    screen.print(_rows([(printable(name), size_text(size)) for name, size in _files(folder.path).items()]))
    return 0


def _facts(listed: ListedRun, environment: Mapping[str, Any], now: float) -> Table:
    facts, machine = listed.facts, environment.get("machine") or {}
    versions, git = environment.get("versions") or {}, environment.get("git") or {}
    state = listed.state + (f", job {facts.job_id}" if facts.job_id else "")
    started = f"{facts.started}, {age_text(age_s(listed, now))} ago, on {environment.get('host', '–')}"
    device = f"{machine.get('device', '–')}, {machine.get('precision', '–')}, ranks {machine.get('world_size', '–')}"
    commit = f", commit {str(git['commit'])[:9]}" + ("" if git.get("clean") else " with changes") if git else ""
    libraries = f"convoy {versions.get('convoy', '–')}, torch {versions.get('torch', '–')}{commit}"
    rows = [("state", state), ("started", started), ("device", device), ("versions", libraries)]
    if facts.epoch is not None:
        rows.append(("epochs", f"{facts.epoch:g}"))
    return _rows(rows)


def _result(summary: Mapping[str, Any]) -> Table:
    """Return a row per metric and a column per split; the monitored metric comes first."""
    metrics, percent = metrics_of(summary), frozenset(summary.get("percent", ()))
    splits = [split for split in ("train", "val", "test") if any(name.startswith(f"{split}/") for name in metrics)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("result")
    for split in splits:
        table.add_column(split, justify="right")
    monitored = str(summary.get("monitor", "")).partition("/")[2]
    names = sorted({name.partition("/")[2] for name in metrics}, key=lambda name: (name != monitored, name))
    for name in names:
        table.add_row(name, *(metric_text(name, metrics.get(f"{split}/{name}"), percent) for split in splits))
    if not names:
        table.add_row("none yet")
    table.add_row()
    return table


def _rows(rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in rows[0] if rows else ("",):
        table.add_column(overflow="fold")
    for row in rows or [("none",)]:
        table.add_row(*map(escape, row))
    table.add_row()
    return table


def _starts(folder: RunFolder) -> list[list[str]]:
    """Return the overrides of each start of a run."""
    try:
        lines = yaml.safe_load(folder.overrides.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return []
    return [[str(text) for text in line] for line in lines or () if isinstance(line, list)]


def _defaults(starts: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return the config of the options that a run chose, or the default one if Convoy no longer has an option."""
    typed = [text for start in starts for text in start]
    chosen = {one.key_or_group: str(one.input_line) for one in parse(typed, Options()).groups}
    for choices in (list(chosen.values()), []):
        try:
            config = to_config(compose(choices))
        except UserError:
            continue
        return without_place(asdict(config))
    return {}


def _command(starts: Sequence[Sequence[str]], saved: Mapping[str, Any], environment: Mapping[str, Any]) -> str:
    """Return the command of a new run with the config of all starts, and with as many threads, which affect sums."""
    threads = (saved.get("hardware") or {}).get("cpu_threads")
    words = {} if threads is None else {"hardware.cpu_threads": f"hardware.cpu_threads={threads}"}
    words |= {text.partition("=")[0]: text for start in starts for text in start}
    overrides = [text for key, text in words.items() if key not in ("resume", "folder")]
    typed = [str(word) for word in environment.get("command") or ()]
    flags = [word for before, word in zip(["", *typed], typed, strict=False) if _is_config_dir(before, word)]
    return shlex.join(["convoy", "train", *flags, *overrides])


def _is_config_dir(before: str, word: str) -> bool:
    """Return whether a word is the flag of a folder of options, or its value."""
    flags = ("-cd", "--config-dir")
    return word in flags or before in flags or word.startswith("--config-dir=")


def _files(folder: Path) -> dict[str, int]:
    """Return the files of a run with their sizes; folders other than that of the checkpoints count as one."""
    found: dict[str, int] = {}
    for path in sorted(folder.iterdir()):
        if path.name == "checkpoints" and not path.is_symlink():
            found |= {f"checkpoints/{file.name}": file.lstat().st_size for file in sorted(path.iterdir())}
        elif path.is_dir() and not path.is_symlink():
            found[f"{path.name}/"] = size_of(path)
        elif not path.name.startswith("."):
            found[path.name] = path.lstat().st_size
    return found
