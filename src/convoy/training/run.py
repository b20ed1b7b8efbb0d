"""The way of a run, told from top to bottom by `train`."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import EarlyStopping
from torch import nn

from convoy.cluster.run_lease import JobFolder
from convoy.config.batch import BatchSizes
from convoy.config.faults import Fault, UserError
from convoy.config.rules import max_time_seconds
from convoy.config.run_length import RunLength, run_length
from convoy.config.schema import Config
from convoy.data.data_module import ImageData
from convoy.models.build import build_model
from convoy.models.freezing import note_on
from convoy.planner.workload import checkpointed
from convoy.records.console import Console
from convoy.records.ledger_log import LedgerLog, Measuring, measures, open_ledger_log
from convoy.records.loggers import Loggers, open_loggers
from convoy.records.metrics_logger import MetricsLogger
from convoy.records.norms import Norms
from convoy.records.progress import ProgressLines
from convoy.records.wandb_logger import OpenRecord
from convoy.runs.layout import RunFolder, create, shown, write_start
from convoy.runtime.cpu_cores import CoreTimes
from convoy.runtime.watchdog import watchdog
from convoy.training import summary as run_summary
from convoy.training.checkpoints import Checkpoints
from convoy.training.ema import WeightEma
from convoy.training.gpu_memory import CudaCounters, PeakMemory, comparison
from convoy.training.lightning_module import NotFiniteError, TrainingModule, mixing
from convoy.training.out_of_memory import BEGUN_FOLDER, OutOfMemory, is_out_of_memory
from convoy.training.placement import place
from convoy.training.resume import Resumed, load, load_weights
from convoy.training.schedule import Schedule
from convoy.training.signals import GracefulStop, StoppedError
from convoy.training.trainer import build_trainer, end_process_group, is_first_rank

_FOLDER_OF_ALL_RANKS = "CONVOY_RUN_FOLDER"
"""Set by the first rank for those it starts, which must write into the same folder."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its folder, the summary it wrote, and the exit code of the command."""

    run: RunFolder
    summary: dict[str, Any]
    exit_code: int


def train(
    config: Config,
    overrides: Sequence[str],
    resumed: Resumed | None = None,
    *,
    restarts: bool = False,
    since: CoreTimes | None = None,
) -> Outcome:
    """Train, validate and test one run.

    Args:
        config: checked without torch (see `preflight`).
        overrides: what was typed, for the record.
        resumed: the run to go on with; its config is `config`.
        restarts: whether this process may become the run that goes on where a GPU's memory doesn't suffice.
        since: the beginning of a time, such as that of the imports, in which other processes are watched.

    Raises:
        UserError: something that only shows with torch, the data or the checkpoint at hand. Nothing is written.
    """
    config, devices, sizes, chosen = place(config, since)
    data = _open_data(config, sizes)
    length = run_length(config.trainer.max_epochs, config.trainer.max_steps, data.steps_per_epoch(devices.world_size))
    module = _build_module(config, data)
    checkpoint = _check_resumed(resumed, module.network, length)

    first = is_first_rank()
    run = _own_folder(config, resumed, first=first)
    terminal = Console(speaking=first)
    terminal.log_to(run.log)
    saved = OmegaConf.to_container(OmegaConf.structured(config), resolve=True)
    assert isinstance(saved, dict)
    if first:
        write_start(run, OmegaConf.to_yaml(saved), list(overrides))
    plain = {str(key): value for key, value in saved.items()}
    loggers = open_loggers(config, run, plain, checkpoint, terminal.say, writing=first)
    book = None
    if first:
        book = open_ledger_log(module.network, config, devices, sizes, run, loggers.wandb)
        frozen = note_on(config.model.get("freeze"), config.model.get("pretrained"))
        loggers.notices += [notice for notice in (*chosen, book.notice, frozen) if notice]
    watched = _callbacks(config, run, terminal, length, sizes, book, devices.name, checkpoint)
    if loggers.wandb is not None:
        watched.all.insert(0, OpenRecord(loggers.wandb, watched.recorder))
    recovery = OutOfMemory(run, sizes, _eval_batch_size(config, sizes), terminal)
    if restarts:
        watched.all.insert(0, recovery)
    memory = PeakMemory(CudaCounters())
    if devices.accelerator == "cuda":
        watched.all.append(memory)
    trainer = build_trainer(config, devices, length, sizes, loggers.all, watched.all, run)
    run_summary.announce(terminal, config, run, data, module, devices, sizes, length, loggers.notices, checkpoint)

    exit_code = 1
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resumed.checkpoint if resumed else None, weights_only=True)
        _test_best(trainer, module, data, run, config)
        exit_code = 0
        peaks = comparison(config, devices, memory.measured) if first else {}
        return _conclude(0, "finished", run, terminal, loggers, watched, module, data, length, peaks)
    except StoppedError as stop:
        terminal.say(f"{stop}; to go on: convoy train resume={shown(run.path)}")
        exit_code = 128 + stop.signal
        return _conclude(exit_code, "stopped", run, terminal, loggers, watched, module, data, length)
    except NotFiniteError as broken:
        run_summary.tell_not_finite(terminal, broken, run, watched.checkpoints.best_step)
        return _conclude(exit_code, "not finite", run, terminal, loggers, watched, module, data, length)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not (restarts and is_out_of_memory(error)):
            raise
        # The recovery has found nothing left to halve. The other ranks can't be asked for anything any more.
        run_summary.tell_out_of_memory(terminal, error)
        return Outcome(run, {"status": "out of memory"}, exit_code)
    except KeyboardInterrupt:
        exit_code = 128 + signal.SIGINT
        raise
    finally:
        recovery.stop()
        end_process_group()
        if loggers.wandb is not None:
            loggers.wandb.finish(exit_code)
        terminal.close()
        os.environ.pop(_FOLDER_OF_ALL_RANKS, None)


@dataclass(frozen=True)
class _Watched:
    """The callbacks, and those of them that are asked for something at the end."""

    all: list[pl.Callback]
    checkpoints: Checkpoints
    recorder: MetricsLogger


def _open_data(config: Config, sizes: BatchSizes) -> ImageData:
    trainer = config.trainer
    data = ImageData(
        config.data,
        seed=config.seed,
        micro_batch_size=sizes.micro_batch_size,
        accumulation=sizes.accumulation,
        eval_batch_size=_eval_batch_size(config, sizes),
        channels_last=trainer.channels_last,
        max_steps=trainer.max_steps,
    )
    data.open()
    return data


def _eval_batch_size(config: Config, sizes: BatchSizes) -> int:
    return config.trainer.eval_batch_size or 2 * sizes.micro_batch_size


def _build_module(config: Config, data: ImageData) -> TrainingModule:
    pl.seed_everything(config.seed, verbose=False)
    network = build_model(
        config.model,
        num_classes=data.num_classes,
        in_channels=config.data.channels,
        image_size=config.data.image_size,
    )
    if config.trainer.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if config.trainer.activation_checkpointing:
        checkpointed(network, config)
    if config.trainer.compile:
        network.compile()  # in place: the names in the state dict stay as they are
    mix = mixing({"mixup": config.trainer.mixup, "cutmix": config.trainer.cutmix}, data.num_classes)
    return TrainingModule(network, config, data.num_classes, mix)


def _check_resumed(resumed: Resumed | None, network: nn.Module, length: RunLength) -> int | None:
    """The step that a resumed run goes on from, its checkpoint checked against this model and length.

    A run that was stopped between its last step and the end of its test has only the test left.
    """
    if resumed is None:
        return None
    content = load(resumed.checkpoint)
    load_weights(network, content, resumed.checkpoint)
    step = int(content["global_step"])
    if length.total_steps is not None and step >= length.total_steps and JobFolder(resumed.run.path).is_finished():
        epochs = -(-step // length.steps_per_epoch)
        rule = f"has done all its {step} steps"
        remedy = f"write a larger end with it, such as trainer.max_epochs={2 * epochs}"
        raise UserError(Fault("resume", rule, remedy, str(resumed.checkpoint)))
    return step


def _own_folder(config: Config, resumed: Resumed | None, *, first: bool) -> RunFolder:
    if not first and _FOLDER_OF_ALL_RANKS in os.environ:
        return RunFolder(Path(os.environ[_FOLDER_OF_ALL_RANKS]))
    begun = os.environ.pop(BEGUN_FOLDER, None)
    if begun is not None:
        run = RunFolder(Path(begun))
    else:
        run = resumed.run if resumed else create(Path(config.output_root), config.name, config.folder)
    os.environ[_FOLDER_OF_ALL_RANKS] = str(run.path)
    return run


def _callbacks(
    config: Config,
    run: RunFolder,
    terminal: Console,
    length: RunLength,
    sizes: BatchSizes,
    book: LedgerLog | None = None,
    device_name: str = "",
    from_step: int | None = None,
) -> _Watched:
    """In the order in which each hook must run: what changes the state, what tells of it, what saves it."""
    trainer = config.trainer
    recorder = MetricsLogger(trainer.log_every_steps, length.steps_per_epoch, sizes.global_batch_size)
    checkpoints = Checkpoints(run, trainer.checkpoint_every_steps)
    seconds = max_time_seconds(trainer.max_time) if trainer.max_time else None
    # Where only time ends a run its schedule is constant, for which any length will do.
    total_steps = length.total_steps or length.steps_per_epoch * 1000
    callbacks = watchdog()
    if trainer.ema_decay is not None:
        callbacks.append(WeightEma(trainer.ema_decay))
    callbacks.append(recorder)
    if book is not None and book.ledger is not None and measures(config, length, sizes.accumulation):
        callbacks.append(Measuring(book, recorder, config.ledger.measure_steps, device_name))
    if book is not None and config.ledger.norms_every_steps:
        callbacks.append(Norms(config.ledger.norms_every_steps, run.norms, from_step))
    callbacks.append(Schedule(config.scheduler, total_steps, length.steps_per_epoch))
    if trainer.early_stopping_epochs is not None:
        callbacks.append(EarlyStopping("val/loss", patience=trainer.early_stopping_epochs, check_finite=False))
    callbacks.append(ProgressLines(terminal, recorder, length.total_steps, length.steps_per_epoch))
    callbacks.append(checkpoints)
    callbacks.append(GracefulStop(checkpoints, seconds))
    return _Watched(callbacks, checkpoints, recorder)


def _test_best(trainer: pl.Trainer, module: TrainingModule, data: ImageData, run: RunFolder, config: Config) -> None:
    """Test with the weights that were best on val; the test split chooses nothing."""
    if not config.trainer.test or not data.sizes.get("test"):
        return
    trainer.strategy.barrier("best.ckpt")
    best = run.best if run.best.is_file() else run.last
    load_weights(module.network, load(best), best)
    trainer.test(module, dataloaders=data.test_dataloader(), verbose=False)


def _conclude(
    exit_code: int,
    status: str,
    run: RunFolder,
    terminal: Console,
    loggers: Loggers,
    watched: _Watched,
    module: TrainingModule,
    data: ImageData,
    length: RunLength,
    peaks: Mapping[str, Any] | None = None,
) -> Outcome:
    bad_images = _of_all_ranks(data.skipped_images)
    summary = run_summary.summarize(
        status, run, module, data, watched.checkpoints, watched.recorder, length, len(bad_images)
    )
    summary |= peaks or {}
    if is_first_rank():
        for path, reason in sorted(bad_images.items()):
            terminal.note(f"left out: {path}: {reason}")
        run_summary.write(run, summary, module.test_report, data.classes)
        if loggers.wandb is not None:
            flat = {key: value for key, value in summary.items() if not isinstance(value, dict)}
            loggers.wandb.log_results(flat, module.test_report.get("confusion_matrix", []), data.classes)
        if status == "finished":
            run_summary.table(terminal, run, summary, module.config.data.source)
    # The first rank's code is the run's. A code of another's makes Lightning kill the first, which may still write.
    return Outcome(run, summary, exit_code if is_first_rank() else 0)


def _of_all_ranks(reasons: dict[str, str]) -> dict[str, str]:
    """Images left out anywhere: each rank decodes its own share."""
    if not torch.distributed.is_initialized():
        return reasons
    gathered: list[dict[str, str]] = [{}] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, reasons)
    return {path: reason for one in gathered for path, reason in one.items()}
