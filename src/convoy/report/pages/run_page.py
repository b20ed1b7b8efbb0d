"""Page of a run, from the records in its folder alone: neither its data nor its network is built."""

from __future__ import annotations

import contextlib
import json
import shlex
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from convoy.config.faults import UserError, one_line
from convoy.ledger.rows import LedgerRows
from convoy.report.pages.curves import curves
from convoy.report.pages.document import Cell, Code, Fact, Facts, Gallery, Markup, Page, Picture, Section, Table
from convoy.report.pages.ledger_section import ledger_parts
from convoy.report.pages.results import mistakes, per_target, png_url, task_tables
from convoy.report.pages.time_section import time_parts
from convoy.runs.layout import RunFolder, read_json, read_saved, shown
from convoy.runs.records import metric_text, read_metrics, read_summary
from convoy.runs.whole_files import append_text, replace_text


def write_report(run: RunFolder, output: Path | None = None) -> Path:
    """Write the page of a run.

    Args:
        run: its folder.
        output: file; None: report.html in the folder.

    Returns:
        The file.

    Raises:
        UserError: the folder has no config.yaml that can be read.
        WriteError: the file can't be written.
    """
    path = output or run.report
    replace_text(path, run_page(run).html())
    return path


def write_at_end(run: RunFolder) -> str:
    """Write the page of a run that has ended, and return a line about it. A failure does not change the run."""
    try:
        return f"page: {shown(write_report(run))}"
    except Exception as error:
        with contextlib.suppress(OSError):
            append_text(run.debug_log, "".join(traceback.format_exception(error)))
        return f"no page: {one_line(error)}; to write it: convoy report run={shown(run.path)}"


def run_page(run: RunFolder) -> Page:
    """Return the page of a run; sections without records are left out."""
    config = read_saved(run.config)
    summary, rows = read_summary(run.summary), read_metrics(run.metrics)
    ledger = LedgerRows.read(run.ledger_json)
    status = summary.get("status", "not finished")
    name = str(config.get("name", run.path.name))
    model = str(config.get("model", {}).get("name", name))
    data = str(config.get("data", {}).get("name", ""))
    sections = [
        Section("Result", [_result(summary, config, rows), *_notes(summary)]),
        Section(
            "Curves",
            curves(rows, summary.get("best_step"), summary.get("titles", {}), summary.get("hidden", ()))
            if rows
            else [],
            in_columns=True,
        ),
        Section("Errors", [*per_target(summary), *task_tables(run.path, summary.get("tables", {}))], in_columns=True),
        Section("Worst predictions", mistakes(run.mistakes)),
        Section("Ledger", ledger_parts(ledger, summary) if ledger else []),
        Section("Time", time_parts(summary, ledger)),
        Section("Filters", _filters(run)),
        Section("Configuration", _configuration(run)),
        Section("Environment", _environment(run)),
    ]
    return Page(f"{name}: {model} on {data}", f"{status}; {run.path.name}", sections)


def _result(summary: Mapping[str, Any], config: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> Facts:
    """Return the monitored metric, the other metrics of val and test, and the size of the run."""
    task = config.get("task", {})
    monitor = str(summary.get("monitor") or task.get("monitor", "val/loss"))
    percent, titles = summary.get("percent", ()), summary.get("titles", {})
    names = [
        key for key, value in summary.items() if key.startswith(("val/", "test/")) and isinstance(value, int | float)
    ]
    first = [monitor, monitor.replace("val/", "test/", 1)]
    order = list(dict.fromkeys(name.split("/")[1] for name in [*first, *names]))
    names.sort(key=lambda name: (order.index(name.split("/")[1]), name.startswith("test/")))
    facts = [
        Fact(
            f"{titles.get(name.split('/')[1], name.split('/')[1])}, {name.split('/')[0]}",
            metric_text(name, summary[name], percent),
        )
        for name in names
        if name.split("/")[1] not in summary.get("hidden", ())
    ]
    if not facts and rows:
        facts.append(Fact("last step", rows[-1]["step"]))
    if parameters := summary.get("parameters"):
        facts.append(Fact("parameters", f"{parameters:,}"))
    if epochs := summary.get("epochs"):
        facts.append(Fact("epochs", f"{epochs:g}"))
    return Facts(facts, is_large=True)


def _notes(summary: Mapping[str, Any]) -> list[Facts]:
    images = ", ".join(f"{count:,} {split}" for split, count in summary.get("images", {}).items() if count)
    facts = [Fact("images", images)] if images else []
    if (best := summary.get("best_step")) is not None:
        facts.append(Fact("best checkpoint", f"step {best:,} of {summary.get('steps', 0):,}"))
    if skipped := summary.get("skipped_images"):
        facts.append(Fact("images that could not be decoded", f"{skipped:,}"))
    return [Facts(facts)] if facts else []


def _filters(run: RunFolder) -> list[Gallery]:
    """Return the filters of the first convolution as an image, from the weights of the best checkpoint."""
    from convoy.training.resume import load

    checkpoint = run.best if run.best.is_file() else run.last
    if not checkpoint.is_file():
        return []
    try:
        weights = load(checkpoint)["state_dict"]
    except UserError:
        return []
    from PIL import Image

    from convoy.report.filter_pictures import grid, scaled

    kernels = [(name, weight) for name, weight in weights.items() if weight.dim() == 4 and weight.shape[-1] > 1]
    if not kernels:
        return []
    name, weight = kernels[0]
    count, channels, height, width = weight.shape
    sheet = grid(scaled(weight.float()))
    text = f"{count} filters of {channels}x{height}x{width} of {name.removeprefix('network.').removesuffix('.weight')}"
    picture = Picture(
        png_url(Image.fromarray((sheet * 255).astype("uint8"))),
        text,
        width=max(240, min(700, 4 * sheet.shape[1])),
        is_pixelated=True,
    )
    return [Gallery(text, [picture], "Each filter is scaled to its own range, from black (smallest weight) to white.")]


def _configuration(run: RunFolder) -> list[Any]:
    starts = _starts(run)
    parts: list[Any] = []
    if starts:
        command = shlex.join(["convoy", "train", *(word for word in starts[0] if not word.startswith("folder="))])
        parts += [Markup("<h3>Command</h3>"), Code(command)]
    changed = [Cell(word.partition("=")[0]) for start in starts for word in start]
    values = [Cell(word.partition("=")[2]) for start in starts for word in start]
    if changed:
        rows = list(zip(changed, values, strict=True))
        parts.append(Table("Values of the command line", ("key", "value"), rows))
    parts.append(Code(run.config.read_text(encoding="utf-8"), "Whole configuration"))
    return parts


def _starts(run: RunFolder) -> list[list[str]]:
    """Return the overrides of each start of a run."""
    try:
        starts = yaml.safe_load(run.overrides.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return []
    return [[str(word) for word in start] for start in starts or () if isinstance(start, list)]


def _environment(run: RunFolder) -> list[Any]:
    found = read_json(run.environment)
    if not found:
        return []
    git, machine = found.get("git") or {}, found.get("machine") or {}
    commit = str(git.get("commit", "")) + ("" if git.get("clean", True) else " with changes")
    facts = [
        ("started", found.get("started")),
        ("host", found.get("host")),
        ("device", machine.get("device")),
        ("GPUs", ", ".join(found.get("gpus") or ())),
        ("ranks", machine.get("world_size")),
        ("precision", machine.get("precision")),
        ("CPU threads", machine.get("cpu_threads")),
        ("commit of Convoy", commit.strip()),
        ("Python", found.get("python")),
        *sorted((found.get("versions") or {}).items()),
    ]
    shown = Facts([Fact(name, str(value)) for name, value in facts if value])
    return [shown, Code(json.dumps(found, indent=2), "Whole record of the machine")]
