"""A trained run's metrics once more, on any split or another data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch

from convoy.config.compose import from_saved, overlay
from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.schema import Config
from convoy.data.check import known_num_targets
from convoy.data.data_module import ImageData
from convoy.evaluation.trained_run import locate
from convoy.models.build import build_model
from convoy.records.console import Console
from convoy.runs.layout import RunFolder, shown
from convoy.runs.whole_files import replace_text
from convoy.runtime.devices import Devices, choose, use_threads
from convoy.tasks.construction import build_task
from convoy.training import summary
from convoy.training.lightning_module import TrainingModule
from convoy.training.preflight import checked
from convoy.training.resume import load, load_weights


def evaluate(
    run_text: str, split: str, checkpoint_text: str, overrides: Sequence[str], options: Options | None = None
) -> dict[str, float]:
    """Evaluate a run's checkpoint, print the metrics and write them into the run's folder.

    Args:
        run_text: a run's folder, "latest", or a checkpoint in a run's folder, which is then the one.
        split: train (as it is, without augmentation), val or test.
        checkpoint_text: best, last, or a file.
        overrides: put over the run's config.
        options: where options are looked for.

    Returns:
        Metrics of the run's task, as `<split>/<name>`.

    Raises:
        UserError: no such run, checkpoint or split, or data of another number of classes.
    """
    terminal = Console()
    terminal.log_to(None)
    opened = open_run(run_text, split, checkpoint_text, overrides, options)
    run, data, module = opened.run, opened.data, opened.module

    trainer = _trainer(opened.devices, run)
    trainer.test(module, dataloaders=data.evaluation_loader(split, device=trainer.strategy.root_device), verbose=False)
    values = {name.replace("test/", f"{split}/"): value for name, value in module.latest.items()}
    _write(terminal, opened, split, values)
    return values


@dataclass(frozen=True)
class Opened:
    """A trained run, ready to be evaluated.

    Attributes:
        run: its folder.
        checkpoint: whose weights the module has.
        config: with what was typed on top.
        devices: of which one is used.
        data: opened.
        module: the network in its Lightning module.
    """

    run: RunFolder
    checkpoint: Path
    config: Config
    devices: Devices
    data: ImageData
    module: TrainingModule


def open_run(
    run_text: str,
    split: str,
    checkpoint_text: str,
    overrides: Sequence[str],
    options: Options | None = None,
    key: str = "run",
) -> Opened:
    """Find a run, open a data set for it and load its weights.

    For the arguments and errors see `evaluate`; `key` is what the user calls the run, for messages.
    """
    roots = [text.partition("=")[2] for text in overrides if text.startswith("output_root=")]
    run, checkpoint = locate(run_text, checkpoint_text, roots[-1] if roots else "outputs", key)
    saved = from_saved(run.saved_config())
    saved.folder = saved.resume = None
    trained = checked(saved)
    config = checked(overlay(saved, overrides, options))
    devices = choose(config)
    use_threads(devices)
    data = open_images(config)
    expected = known_num_targets(trained.data)
    if expected is not None and len(data.targets.names) != expected:
        rule = f"has {data.targets.describe()}; the run was trained with {expected}"
        raise UserError(Fault("data", rule, f"choose a set like {trained.data.name}", config.data.name))
    if not data.sizes.get(split):
        there = ", ".join(name for name, count in data.sizes.items() if count)
        raise UserError(Fault("split", f"{config.data.name} has no such split", f"it has {there}", split))
    return Opened(run, checkpoint, config, devices, data, _load(config, data, checkpoint))


def open_images(config: Config) -> ImageData:
    """Return the data of a config, opened, in batches for evaluation.

    Raises:
        UserError: the data can't be used.
    """
    batch_size = config.trainer.eval_batch_size or 2 * int(
        config.trainer.micro_batch_size or config.trainer.global_batch_size
    )
    data = ImageData(
        config.data,
        seed=config.seed,
        micro_batch_size=1,
        accumulation=1,
        eval_batch_size=batch_size,
        channels_last=config.trainer.channels_last,
    )
    data.open()
    return data


def _load(config: Config, data: ImageData, checkpoint: Path) -> TrainingModule:
    # The checkpoint's weights replace all others, pretrained ones too.
    model = {name: value for name, value in config.model.items() if name != "pretrained"}
    task = build_task(config, data.targets, data.class_counts)
    network = build_model(
        model,
        **data.model_sizes,
        output_check=task.output_check,
    )
    load_weights(network, load(checkpoint), checkpoint)
    if config.trainer.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return TrainingModule(network, config, task)


def _trainer(devices: Devices, run: RunFolder) -> pl.Trainer:
    """One process on one device: every image counts exactly once whatever the run was trained on."""
    return pl.Trainer(
        accelerator=devices.accelerator,
        devices=1,
        precision=devices.precision,  # type: ignore[arg-type]
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run.path,
    )


def _write(console: Console, opened: Opened, split: str, values: dict[str, float]) -> None:
    """Write the metrics and tables into the run's folder and print them."""
    run, config, data = opened.run, opened.config, opened.data
    report, task = opened.module.test_report, opened.module.task
    stem = f"evaluation-{config.data.name}-{split}"
    record = {
        "checkpoint": str(opened.checkpoint),
        "data": config.data.name,
        "split": split,
        "images": data.sizes[split],
        **values,
        **report.values,
    }
    replace_text(run.path / f"{stem}.json", json.dumps(record, indent=2) + "\n")
    for name, content in report.tables.items():
        summary.write_table(run.path / f"{stem}-{name}.csv", content)
    console.say(f"{config.name}, {shown(opened.checkpoint)}")
    console.say(f"{config.data.name}: {data.sizes[split]:,} {split} images")
    console.show(summary.metrics_grid(task, values, (split,)))
    console.say(f"{shown(run.path)}/{stem}.json")
