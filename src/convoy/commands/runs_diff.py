"""convoy runs diff: configs, results and environments of two runs, where they differ."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rich.table import Table

from convoy.commands.declaration.run_verbs import NamedRunsVerb
from convoy.ledger.text_formats import markdown_table
from convoy.runs.config_differences import MISSING, differences, metrics_of, without_place
from convoy.runs.layout import RunFolder, read_json, shown
from convoy.runs.records import metric_text, read_summary
from convoy.runtime.terminal_output import console

_FACTS = ("steps", "epochs", "seconds", "images_per_s", "parameters", "best_step")
_ENVIRONMENT = ("host", "python", "versions", "git", "machine")


@dataclass(frozen=True)
class RunsDiff(NamedRunsVerb):
    """Compare the configs, results and environments of two runs.

    Only what differs is listed. A run is named by its folder, its name (the
    newest run of that name), the last part of its folder's name, or latest.

      convoy runs diff latest lenet5
      convoy runs diff 1f0c3a 9be2d4 format=csv
    """

    format: Literal["table", "md", "csv", "json"] = "table"
    """Format of the differences."""

    num_runs = 2


ARGUMENTS = RunsDiff


def run(given: RunsDiff) -> int:
    """Print the differences."""
    first, second = given.folders()
    parts = {
        "config": differences(*(without_place(run.saved_config()) for run in (first, second))),
        "result": differences(_result(first), _result(second)),
        "environment": differences(_environment(first), _environment(second)),
    }
    folders = shown(first.path), shown(second.path)
    if given.format == "json":
        content = {part: {key: list(values) for key, values in found.items()} for part, found in parts.items()}
        print(json.dumps({"runs": folders, **content}, indent=2, ensure_ascii=False))
        return 0
    rows = [(part, key, *values) for part, found in parts.items() for key, values in found.items()]
    if given.format == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerows([("part", "key", *folders), *rows])
    elif given.format == "md":
        print(markdown_table(("part", "key", *folders), rows, left=4))
    elif rows:
        screen = console()
        screen.print("\n".join(f"{letter}  {folder}" for letter, folder in zip("AB", folders, strict=True)))
        screen.print(_table(parts))
    else:
        print("the runs do not differ")
    return 0


def _table(parts: Mapping[str, Mapping[str, tuple[str, str]]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "A", "B"):
        table.add_column(name, overflow="fold")
    for part, found in parts.items():
        if found:
            table.add_row()
            table.add_row(f"[bold]{part}")
        for key, values in found.items():
            table.add_row(*(text.replace("[", r"\[") for text in (key, *values)))
    return table


def _result(run: RunFolder) -> dict[str, Any]:
    summary = read_summary(run.summary)
    percent = frozenset(summary.get("percent", ()))
    values = {key: f"{summary[key]:.6g}" for key in _FACTS if isinstance(summary.get(key), int | float)}
    return values | {name: metric_text(name, value, percent) for name, value in metrics_of(summary).items()}


def _environment(run: RunFolder) -> dict[str, Any]:
    environment = read_json(run.environment)
    return {key: environment.get(key, MISSING) for key in _ENVIRONMENT}
