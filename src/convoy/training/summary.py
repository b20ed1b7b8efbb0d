"""Output of a run: the lines at its start, summary.json, and the table at its end."""

from __future__ import annotations

import csv
import io
import json
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table as RichTable

from convoy.config.image_size import sides_of
from convoy.data.data_module import ImageData
from convoy.data.source_names import FILE_SOURCES
from convoy.data.targets import counted
from convoy.records.console import Console
from convoy.records.run_context import RunContext
from convoy.runs.layout import RunFolder, shown
from convoy.runs.os_errors import described, remedy
from convoy.runs.records import duration
from convoy.runs.whole_files import WriteError, replace_text
from convoy.tasks.task import Task
from convoy.tasks.task_report import Report, ReportTable
from convoy.training.callbacks import Callbacks
from convoy.training.checkpoint_files import step_of
from convoy.training.lightning_module import NotFiniteError, TrainingModule

MOST_WAIT = 0.05
"""Share of the time of training that a run may wait for its data before it says so."""


def announce(context: RunContext, data: ImageData, module: TrainingModule, notices: Sequence[str]) -> None:
    """Print what was composed, in a few lines.

    Args:
        context: of the run.
        data: opened.
        module: network and task.
        notices: further lines.
    """
    config, devices, sizes, length = context.config, context.devices, context.sizes, context.length
    console = context.console
    parameters = f"{sum(parameter.numel() for parameter in module.network.parameters()):,} parameters"
    if frozen := [parameter.numel() for parameter in module.network.parameters() if not parameter.requires_grad]:
        parameters += f", of which {sum(frozen):,} are frozen"
    splits = ", ".join(f"{count:,} {split}" for split, count in data.sizes.items() if count)
    kind = module.task.targets.describe()
    shape = f"{config.data.channels}x{sides_of(config.data.image_size)}"
    batch = f"global batch {sizes.global_batch_size}"
    if sizes.accumulation > 1 or sizes.world_size > 1:
        batch += f" ({sizes.micro_batch_size} x {sizes.accumulation} steps x {sizes.world_size} ranks)"
    per_epoch = counted(length.steps_per_epoch, "step")
    steps = "" if length.total_steps is None else f", {counted(length.epochs or 0, 'epoch')} of {per_epoch}"
    if length.total_steps is not None and length.total_steps < length.steps_per_epoch * (length.epochs or 0):
        steps = f", {counted(length.total_steps, 'step')}"
    limit = f", at most {config.trainer.max_time}" if config.trainer.max_time else ""
    optimizer = str(config.optimizer["_target_"]).rsplit(".", 1)[-1]
    schedule = str(config.scheduler["_target_"]).rsplit(".", 1)[-1]
    console.say(f"model   {config.model.get('name', config.name)}: {parameters}")
    console.say(f"data    {config.data.name}: {splits}; {shape}, {kind}")
    for note in data.notes:
        console.say(f"        {note}")
    console.say(f"device  {devices.name}, {devices.precision}; {batch}{steps}{limit}")
    console.say(f"optim   {optimizer}, learning rate {config.optimizer['lr']:g}, {schedule}")
    console.say(f"folder  {shown(context.run.path)}")
    for notice in notices:
        console.say(notice)
    if context.first_step is not None:
        console.say(f"resuming after step {context.first_step}")


def summarize(
    status: str,
    context: RunContext,
    module: TrainingModule,
    data: ImageData,
    callbacks: Callbacks,
    num_skipped: int,
) -> dict[str, Any]:
    """Return the run in one record: `val/…` are the best checkpoint's, `test/…` those of the same weights.

    Args:
        status: `finished`, `stopped` or `not finite`.
        context: of the run.
        module: network, task and latest metrics.
        data: opened.
        callbacks: know the best step and the speed.
        num_skipped: images that could not be decoded, over all ranks.
    """
    run, length, checkpoints, metrics = context.run, context.length, callbacks.checkpoints, callbacks.metrics
    best = run.best if checkpoints.best is not None else None
    step = module.trainer.global_step
    return {
        "status": status,
        "name": module.config.name,
        "folder": str(run.path),
        "steps": step,
        "epochs": round(step / length.steps_per_epoch, 4),
        "seconds": round(metrics.seconds, 3),
        "images_per_s": metrics.images_per_s,
        "data_wait": metrics.data_wait,
        "logging_share": metrics.logging_share,
        "parameters": sum(parameter.numel() for parameter in module.network.parameters()),
        "images": dict(data.sizes),
        "training_counts": data.counts_by_name(),
        "skipped_images": num_skipped,
        "best_checkpoint": str(best) if best else None,
        "best_step": checkpoints.best_step,
        "monitor": module.task.monitor,
        "percent": sorted(module.task.percent),
        "titles": dict(module.task.titles),
        "hidden": sorted(module.task.hidden),
        "tables": {name: table.kind for name, table in module.test_report.tables.items()},
        "target_names": list(module.task.targets.names),
        **{name: value for name, value in module.latest.items() if name.startswith("train/")},
        **(checkpoints.best or {}),
        **{name: value for name, value in module.latest.items() if name.startswith("test/")},
        **{f"{module.tested}/{name}": value for name, value in module.test_report.values.items()},
    }


def write(run: RunFolder, summary: Mapping[str, Any], report: Report) -> None:
    """Write each table of the test as `<name>.csv`, and summary.json, which concludes the run, last."""
    for name, content in report.tables.items():
        write_table(run.path / f"{name}.csv", content)
    replace_text(run.summary, json.dumps(summary, indent=2) + "\n")


def write_table(path: Path, content: ReportTable) -> None:
    """Write a table of a report as CSV."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([content.columns, *content.rows])
    replace_text(path, text.getvalue())


def metrics_grid(task: Task, values: Mapping[str, Any], splits: Sequence[str]) -> RichTable:
    """Return a table with a row per metric and a column per split.

    Args:
        task: formats the values.
        values: metrics by `<split>/<name>`.
        splits: columns.
    """
    grid = RichTable(box=None, pad_edge=False, header_style="bold")
    grid.add_column("")
    for split in splits:
        grid.add_column(split, justify="right")
    prefixes = tuple(f"{split}/" for split in splits)
    names = [key.split("/", 1)[1] for key, value in values.items() if key.startswith(prefixes) and _is_number(value)]
    names = [name for name in dict.fromkeys(names) if name not in task.hidden]
    for name in sorted(names, key=lambda name: name == "loss"):
        grid.add_row(task.title(name), *(task.text(name, values.get(f"{split}/{name}")) for split in splits))
    return grid


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def print_results(context: RunContext, summary: Mapping[str, Any], task: Task) -> None:
    """Print val and test side by side, the best checkpoint, and the files of the run."""
    console, run, source = context.console, context.run, context.config.data.source
    console.say()
    console.show(metrics_grid(task, summary, ("val", "test")))
    if "test/loss" not in summary:
        has_test = bool(summary["images"].get("test"))
        console.say("no test: trainer.test=false" if has_test else "no test: the data set has no test split")
    speed = f", {summary['images_per_s']:,.0f} img/s" if summary["images_per_s"] else ""
    console.say(f"\ntrained {duration(summary['seconds'])}{speed}; best at step {summary['best_step']}")
    for line in (*wait_lines(summary, source), *memory_lines(summary)):
        console.say(line)
    if console.log_error is not None:
        console.say(f"run.log is incomplete: {described(console.log_error)}")
    if summary["skipped_images"]:
        console.say(f"{summary['skipped_images']:,} images could not be decoded and were skipped; run.log lists them")
    console.say(f"{shown(run.path)}/\n  checkpoints/best.ckpt  metrics.csv  summary.json  run.log")


def wait_lines(summary: Mapping[str, Any], source: str) -> list[str]:
    """Return a line if a run has waited for its data, with the setting to change."""
    share = summary.get("data_wait")
    if share is None or share <= MOST_WAIT:
        return []
    if source in FILE_SOURCES:
        remedy = "more threads decode with data.num_workers=…, smaller files on a local disk are read faster"
    else:
        remedy = "its augmentation is computed between two steps: a larger trainer.micro_batch_size costs less of it"
    return [f"waited for data {share:.0%} of the time: {remedy}"]


def memory_lines(summary: Mapping[str, Any]) -> list[str]:
    """Peak memory of the GPU, measured and predicted; nothing of a run on the CPU."""
    if "memory/allocated_measured_bytes" not in summary:
        return []
    lines = ["GPU memory  measured  predicted  error"]
    for name, heading in (("allocated", "allocated"), ("reserved", "reserved"), ("device", "by driver")):
        measured, predicted = summary[f"memory/{name}_measured_bytes"], summary.get(f"memory/{name}_predicted_bytes")
        error = summary.get(f"memory/{name}_error_percent")
        figures = f"{measured / 2**30:7.2f} G" + (f"  {predicted / 2**30:7.2f} G" if predicted else "          –")
        lines.append(f"{heading:<10}{figures}" + (f"  {error:+5.1f} %" if error is not None else ""))
    return lines


def kept(run: RunFolder, remedy: str = "") -> str:
    """Return what is left of a run that ended early, and the command that resumes it.

    Args:
        run: its folder.
        remedy: what must be done first, as a clause.
    """
    step = step_of(run.last)
    if step is None:
        return "no checkpoint had been written; " + (f"{remedy} and " if remedy else "") + "start it again"
    first = f"{remedy}, then " if remedy else ""
    return f"kept: {shown(run.last)} of step {step}; {first}to resume: convoy train resume={shown(run.path)}"


def report_not_finite(context: RunContext, broken: NotFiniteError, best_step: int | None) -> None:
    """Print the step at which the loss broke, and the command that resumes from the last good checkpoint."""
    console, run = context.console, context.run
    console.say(f"stopped: {broken}", style="bold red")
    if broken.operation:
        return
    if run.last.is_file():
        console.say(f"last good checkpoint: {shown(run.last)}" + (f", best step {best_step}" if best_step else ""))
        console.say(f"to resume: convoy train resume={shown(run.path)} optimizer.lr={broken.learning_rate / 10:g}")
    else:
        console.say("no checkpoint had been written")
        console.say(f"try a lower learning rate, such as optimizer.lr={broken.learning_rate / 10:g}")


def report_os_error(console: Console, run: RunFolder, error: OSError) -> None:
    """Print in one line what could not be written, what is kept, and the command that resumes."""
    if not isinstance(error, WriteError):  # which names the file
        console.note("".join(traceback.format_exception(error)))
    console.say_or_warn(f"stopped: {described(error)}; {kept(run, remedy(error))}")


def report_out_of_memory(console: Console, error: BaseException) -> None:
    """Print that not even a micro batch of one image fits, and what might."""
    console.say(f"stopped: {str(error).splitlines()[0]}", style="bold red")
    console.say("no smaller batch is left to try: choose a card with more memory ('convoy plan hardware=*' lists")
    console.say("them), trainer.precision=bf16-mixed or 16-mixed, a smaller data.image_size or a smaller model")
