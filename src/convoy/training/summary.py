"""What a run tells and leaves: the lines at its start, summary.json, the table at its end."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from convoy.config.batch import BatchSizes
from convoy.config.run_length import RunLength
from convoy.config.schema import Config
from convoy.data.check import FILE_SOURCES
from convoy.data.data_module import ImageData
from convoy.records.console import Console
from convoy.records.metrics_logger import MetricsLogger
from convoy.records.progress import duration
from convoy.runs.layout import RunFolder, replace_text, shown
from convoy.runtime.devices import Devices
from convoy.training.checkpoints import Checkpoints
from convoy.training.lightning_module import NotFiniteError, TrainingModule

MOST_WAIT = 0.05
"""Share of the time of training that a run may wait for its data before it says so."""


def announce(
    terminal: Console,
    config: Config,
    run: RunFolder,
    data: ImageData,
    module: TrainingModule,
    devices: Devices,
    sizes: BatchSizes,
    length: RunLength,
    notices: Sequence[str],
    resumed_at: int | None,
) -> None:
    """What was composed, in a few lines."""
    parameters = f"{sum(parameter.numel() for parameter in module.network.parameters()):,} parameters"
    if frozen := [parameter.numel() for parameter in module.network.parameters() if not parameter.requires_grad]:
        parameters += f", of which {sum(frozen):,} are frozen"
    splits = ", ".join(f"{count:,} {split}" for split, count in data.sizes.items() if count)
    shape = f"{config.data.channels}x{config.data.image_size}x{config.data.image_size}"
    batch = f"global batch {sizes.global_batch_size}"
    if sizes.accumulation > 1 or sizes.world_size > 1:
        batch += f" ({sizes.micro_batch_size} x {sizes.accumulation} steps x {sizes.world_size} ranks)"
    steps = "" if length.total_steps is None else f", {length.epochs} epochs of {length.steps_per_epoch} steps"
    if length.total_steps is not None and length.total_steps < length.steps_per_epoch * (length.epochs or 0):
        steps = f", {length.total_steps} steps"
    limit = f", at most {config.trainer.max_time}" if config.trainer.max_time else ""
    optimizer = str(config.optimizer["_target_"]).rsplit(".", 1)[-1]
    schedule = str(config.scheduler["_target_"]).rsplit(".", 1)[-1]
    terminal.say(f"model   {config.model.get('name', config.name)}: {parameters}")
    terminal.say(f"data    {config.data.name}: {splits}; {shape}, {data.num_classes} classes")
    for note in data.notes:
        terminal.say(f"        {note}")
    terminal.say(f"device  {devices.name}, {devices.precision}; {batch}{steps}{limit}")
    terminal.say(f"rule    {optimizer}, learning rate {config.optimizer['lr']:g}, {schedule}")
    terminal.say(f"folder  {shown(run.path)}")
    for notice in notices:
        terminal.say(notice)
    if resumed_at is not None:
        terminal.say(f"goes on after step {resumed_at}")


def summarize(
    status: str,
    run: RunFolder,
    module: TrainingModule,
    data: ImageData,
    checkpoints: Checkpoints,
    recorder: MetricsLogger,
    length: RunLength,
    num_skipped: int,
) -> dict[str, Any]:
    """The run in one record: `val/…` are the best checkpoint's, `test/…` are those of the same weights.

    `num_skipped` counts the images that could not be decoded, over all ranks.
    """
    best = run.best if checkpoints.best is not None else None
    step = module.trainer.global_step
    return {
        "status": status,
        "name": module.config.name,
        "folder": str(run.path),
        "steps": step,
        "epochs": round(step / length.steps_per_epoch, 4),
        "seconds": round(recorder.seconds, 3),
        "images_per_s": recorder.images_per_s,
        "data_wait": recorder.data_wait,
        "parameters": sum(parameter.numel() for parameter in module.network.parameters()),
        "images": dict(data.sizes),
        "skipped_images": num_skipped,
        "best_checkpoint": str(best) if best else None,
        "best_step": checkpoints.best_step,
        "train/loss": module.latest.get("train/loss"),
        "train/top1": module.latest.get("train/top1"),
        **(checkpoints.best or {}),
        **{name: value for name, value in module.latest.items() if name.startswith("test/")},
        "test/per_class": dict(zip(data.classes, module.test_report.get("per_class", []), strict=False)),
    }


def write(run: RunFolder, summary: dict[str, Any], report: dict[str, Any], classes: Sequence[str]) -> None:
    """summary.json, and the test's confusion matrix as confusion_matrix.csv, true classes down the side."""
    replace_text(run.summary, json.dumps(summary, indent=2) + "\n")
    if report.get("confusion_matrix"):
        write_matrix(run.path / "confusion_matrix.csv", report["confusion_matrix"], classes)


def write_matrix(path: Path, matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> None:
    """Rows of true classes, columns of predicted ones, counts of images."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["true \\ predicted", *classes])
        for name, row in zip(classes, matrix, strict=True):
            writer.writerow([name, *row])


def table(terminal: Console, run: RunFolder, summary: dict[str, Any], source: str) -> None:
    """val and test side by side, the best checkpoint, and where everything lies. `source` is the data's."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("")
    grid.add_column("val", justify="right")
    grid.add_column("test", justify="right")
    for metric, label in (("top1", "top-1"), ("top5", "top-5"), ("loss", "loss")):
        values = [summary.get(f"{split}/{metric}") for split in ("val", "test")]
        if any(value is not None for value in values):
            grid.add_row(label, *(metric_text(metric, value) for value in values))
    terminal.say()
    terminal.show(grid)
    if "test/top1" not in summary:
        terminal.say("no test: the data set has no test split, or trainer.test=false")
    speed = f", {summary['images_per_s']:,.0f} img/s" if summary["images_per_s"] else ""
    terminal.say(f"\ntrained {duration(summary['seconds'])}{speed}; best at step {summary['best_step']}")
    for line in (*wait_lines(summary, source), *memory_lines(summary)):
        terminal.say(line)
    if summary["skipped_images"]:
        terminal.say(f"{summary['skipped_images']:,} images could not be decoded and were left out; run.log names them")
    terminal.say(f"{shown(run.path)}/\n  checkpoints/best.ckpt  metrics.csv  summary.json  run.log")


def wait_lines(summary: Mapping[str, Any], source: str) -> list[str]:
    """That a run has waited for its data, and what to change; nothing where it hardly did."""
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
    for name, label in (("allocated", "allocated"), ("reserved", "reserved"), ("device", "by driver")):
        measured, predicted = summary[f"memory/{name}_measured_bytes"], summary.get(f"memory/{name}_predicted_bytes")
        error = summary.get(f"memory/{name}_error_percent")
        figures = f"{measured / 2**30:7.2f} G" + (f"  {predicted / 2**30:7.2f} G" if predicted else "          –")
        lines.append(f"{label:<10}{figures}" + (f"  {error:+5.1f} %" if error is not None else ""))
    return lines


def metric_text(metric: str, value: float | None) -> str:
    """An accuracy in percent, a loss as it is, nothing as a dash."""
    if value is None:
        return "–"
    return f"{value:.4f}" if metric == "loss" else f"{value:.2%}"


def tell_not_finite(terminal: Console, broken: NotFiniteError, run: RunFolder, best_step: int | None) -> None:
    """Where the loss broke, and what is left to go on from."""
    terminal.say(f"stopped: {broken}", style="bold red")
    if run.last.is_file():
        terminal.say(f"last good checkpoint: {shown(run.last)}" + (f", best step {best_step}" if best_step else ""))
        terminal.say(f"to go on: convoy train resume={shown(run.path)} optimizer.lr={broken.learning_rate / 10:g}")
    else:
        terminal.say("no checkpoint had been written")
        terminal.say(f"try a lower learning rate, such as optimizer.lr={broken.learning_rate / 10:g}")


def tell_out_of_memory(terminal: Console, error: BaseException) -> None:
    """That not even a micro batch of one image fits, and what might."""
    terminal.say(f"stopped: {str(error).splitlines()[0]}", style="bold red")
    terminal.say("no smaller batch is left to try: choose a card with more memory ('convoy plan hardware=*' shows")
    terminal.say("which), trainer.precision=bf16-mixed or 16-mixed, a smaller data.image_size or a smaller model")
