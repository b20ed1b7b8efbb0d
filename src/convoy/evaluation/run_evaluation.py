"""Evaluation of a trained run on any split or another data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl

from convoy.config.options import Options
from convoy.data.targets import listed
from convoy.evaluation.bootstrap import LEVEL, bootstrap_intervals
from convoy.evaluation.network_outputs import outputs_of
from convoy.evaluation.trained_run import RunData, TrainedRun
from convoy.evaluation.views import ViewAverage, check_views, views_of
from convoy.records.console import Console
from convoy.runs.layout import shown
from convoy.runs.whole_files import replace_text
from convoy.runtime.devices import Devices
from convoy.tasks.construction import build_task, metrics_of
from convoy.training import summary
from convoy.training.lightning_module import TrainingModule

Intervals = dict[str, tuple[float, float]]
"""Lower and upper end of the bootstrap interval of each metric, named `<split>/<name>`."""

_ENDS = tuple(f"{percent:g}%" for percent in (50 - 50 * LEVEL, 50 + 50 * LEVEL))


@dataclass(frozen=True)
class Evaluated:
    """Result of an evaluation.

    Attributes:
        values: metrics of the run's task, named `<split>/<name>`.
        files: path of its files without their endings, such as `.json` and `-confusion_matrix.csv`.
    """

    values: dict[str, float]
    files: Path


def evaluate(
    run: TrainedRun,
    split: str,
    overrides: Sequence[str],
    options: Options | None = None,
    tta: str = "none",
    bootstrap: int = 0,
    *,
    speaking: bool = True,
) -> Evaluated:
    """Evaluate a run's checkpoint, print the metrics and write them to the run's folder.

    Args:
        run: the trained network.
        split: train (without augmentation), val or test.
        overrides: overrides of the run's config.
        options: folders of the options.
        tta: views of each image whose predictions are averaged, see `views_of`.
        bootstrap: number of samples of the images for an interval of each metric; 0 for no intervals.
        speaking: whether to print.

    Raises:
        UserError: if there is no such split, or the data does not fit the run.
    """
    terminal = Console(speaking=speaking)
    terminal.log_to(None)
    opened = Evaluation.open(run, split, overrides, options, tta)
    trainer = _trainer(opened.data.devices, run)
    trainer.test(opened.module, dataloaders=opened.data.batches(split), verbose=False)
    values = {name.replace("test/", f"{split}/"): value for name, value in opened.module.latest.items()}
    _write(terminal, opened, split, values, _intervals(opened, split, bootstrap))
    return Evaluated(values, run.folder / opened.stem(split))


def _intervals(opened: Evaluation, split: str, bootstrap: int) -> Intervals:
    if not bootstrap:
        return {}
    task, config = opened.module.task, opened.data.config
    outputs, targets = outputs_of(opened.module, opened.data, split)
    found = bootstrap_intervals(task, lambda: metrics_of(task, config, "test"), outputs, targets, bootstrap)
    return {f"{split}/{name}": interval for name, interval in found.items()}


@dataclass(frozen=True)
class Evaluation:
    """Trained run with the data of an evaluation.

    Attributes:
        run: the trained network.
        data: the run's data or another set.
        module: Lightning module of the network, with a task for the targets of the run.
        absent: classes of the run that the data lacks.
        tta: views of each image.
    """

    run: TrainedRun
    data: RunData
    module: TrainingModule
    absent: tuple[str, ...] = ()
    tta: str = "none"

    def stem(self, split: str) -> str:
        """Return the name of the evaluation's files without a suffix."""
        return f"evaluation-{self.data.name}-{split}" + ("" if self.tta == "none" else f"-{self.tta.replace(',', '-')}")

    @classmethod
    def open(
        cls,
        run: TrainedRun,
        split: str,
        overrides: Sequence[str],
        options: Options | None = None,
        tta: str = "none",
    ) -> Evaluation:
        """Open the data for a run. See `evaluate` for arguments and errors."""
        data = run.open_data(overrides, options)
        trained_on = data.config.data
        views = views_of(tta, trained_on)
        data = data.of_size(views.image_size)
        absent = data.images.match_classes(run.facts.targets)
        data.check_split(split)
        task = build_task(data.config, data.images.targets, data.images.class_counts)
        check_views(tta, run.network, task, trained_on)
        network = run.network if tta == "none" else ViewAverage(run.network, task, views)
        return cls(run, data, TrainingModule(network, data.config, task), absent, tta)


def _trainer(devices: Devices, run: TrainedRun) -> pl.Trainer:
    """Return a Trainer with one process on one device, so that every image counts exactly once."""
    return pl.Trainer(
        accelerator=devices.accelerator,
        devices=1,
        precision=devices.precision,  # type: ignore[arg-type]
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run.folder,
    )


def _write(console: Console, opened: Evaluation, split: str, values: dict[str, float], intervals: Intervals) -> None:
    """Write the metrics and tables to the run's folder and print them."""
    folder, data = opened.run.folder, opened.data
    report, task = opened.module.test_report, opened.module.task
    stem = opened.stem(split)
    num_images = data.images.sizes[split]
    record = {
        "checkpoint": str(opened.run.checkpoint),
        "data": data.name,
        "split": split,
        "tta": opened.tta,
        "images": num_images,
        **values,
        **report.values,
    }
    if intervals:
        record["intervals"] = {name: list(interval) for name, interval in intervals.items()}
    replace_text(folder / f"{stem}.json", json.dumps(record, indent=2) + "\n")
    for name, content in report.tables.items():
        summary.write_table(folder / f"{stem}-{name}.csv", content)
    console.say(opened.run.title)
    console.say(f"{data.name}: {num_images:,} {split} images" + ("" if opened.tta == "none" else f", {opened.tta}"))
    if opened.absent:
        console.say(f"no images of {listed(opened.absent)}: these classes have no results")
    shown_values = dict(values)
    for side, column in enumerate(_ENDS if intervals else ()):
        shown_values |= {f"{column}/{name.split('/', 1)[1]}": ends[side] for name, ends in intervals.items()}
    console.show(summary.metrics_grid(task, shown_values, (split, *_ENDS) if intervals else (split,)))
    console.say(f"{shown(folder)}/{stem}.json")
