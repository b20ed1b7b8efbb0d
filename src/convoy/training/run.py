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

from convoy.cluster.claim import JobFolder
from convoy.config.batch import BatchSizes
from convoy.config.faults import Fault, UserError
from convoy.config.rules import max_time_seconds
from convoy.config.schema import Config
from convoy.data.module import ImageData
from convoy.models.build import build_model
from convoy.models.freezing import note_on
from convoy.planner.workload import checkpointed
from convoy.training import results
from convoy.training.averaging import Averaging
from convoy.training.checkpoints import Checkpoints
from convoy.training.classifier import Classifier, NotFiniteError, mixing
from convoy.training.cores import CoreTimes
from convoy.training.executions import ExecutionData
from convoy.training.folder import RunFolder, create, shown, write_start
from convoy.training.gpu_memory import CudaCounters, PeakMemory, comparison
from convoy.training.ledger_log import LedgerLog, Measuring, measures, open_ledger_log
from convoy.training.loggers import Loggers, open_loggers
from convoy.training.norms import Norms
from convoy.training.out_of_memory import BEGUN_FOLDER, OutOfMemory, is_out_of_memory
from convoy.training.placement import place
from convoy.training.position import Length, length
from convoy.training.progress import ProgressLines
from convoy.training.recorder import Recorder
from convoy.training.resume import Resumed, load, load_weights
from convoy.training.schedule import Schedule
from convoy.training.terminal import Terminal
from convoy.training.trainer import build_trainer, end_process_group, is_first_rank
from convoy.training.wandb_logger import OpenRecord
from convoy.training.watch import StoppedError, Watch
from convoy.training.watchdog import watchdog

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
    span = length(config.trainer.max_epochs, config.trainer.max_steps, data.steps_per_epoch(devices.world_size))
    module = _build_module(config, data)
    checkpoint = _check_resumed(resumed, module.network, span)

    first = is_first_rank()
    run = _own_folder(config, resumed, first=first)
    terminal = Terminal(speaking=first)
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
    watched = _callbacks(config, run, terminal, span, sizes, book, devices.name, checkpoint)
    if loggers.wandb is not None:
        watched.all.insert(0, OpenRecord(loggers.wandb, watched.recorder))
    recovery = OutOfMemory(run, sizes, _eval_batch_size(config, sizes), terminal)
    if restarts:
        watched.all.insert(0, recovery)
    memory = PeakMemory(CudaCounters())
    if devices.accelerator == "cuda":
        watched.all.append(memory)
    trainer = build_trainer(config, devices, span, sizes, loggers.all, watched.all, run)
    results.announce(terminal, config, run, data, module, devices, sizes, span, loggers.notices, checkpoint)

    exit_code = 1
    try:
        trainer.fit(module, datamodule=data, ckpt_path=resumed.checkpoint if resumed else None, weights_only=True)
        _test_best(trainer, module, data, run, config)
        exit_code = 0
        peaks = comparison(config, devices, memory.measured) if first else {}
        return _conclude(0, "finished", run, terminal, loggers, watched, module, data, span, peaks)
    except StoppedError as stop:
        terminal.say(f"{stop}; to go on: convoy train resume={shown(run.path)}")
        exit_code = 128 + stop.signal
        return _conclude(exit_code, "stopped", run, terminal, loggers, watched, module, data, span)
    except NotFiniteError as broken:
        results.tell_not_finite(terminal, broken, run, watched.checkpoints.best_step)
        return _conclude(exit_code, "not finite", run, terminal, loggers, watched, module, data, span)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not (restarts and is_out_of_memory(error)):
            raise
        # The recovery has found nothing left to halve. The other ranks can't be asked for anything any more.
        results.tell_out_of_memory(terminal, error)
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
    recorder: Recorder


def _open_data(config: Config, sizes: BatchSizes) -> ImageData:
    trainer = config.trainer
    given: dict[str, Any] = {}
    if trainer.steps_per_execution > 1:
        due_every = [trainer.log_every_steps, trainer.checkpoint_every_steps or trainer.log_every_steps]
        given = {"most_steps": trainer.steps_per_execution, "due_every": due_every}
    data = (ExecutionData if given else ImageData)(
        config.data,
        seed=config.seed,
        micro_batch_size=sizes.micro_batch_size,
        accumulation=sizes.accumulation,
        eval_batch_size=_eval_batch_size(config, sizes),
        channels_last=trainer.channels_last,
        max_steps=trainer.max_steps,
        **given,
    )
    data.open()
    return data


def _eval_batch_size(config: Config, sizes: BatchSizes) -> int:
    return config.trainer.eval_batch_size or 2 * sizes.micro_batch_size


def _build_module(config: Config, data: ImageData) -> Classifier:
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
    return Classifier(network, config, data.num_classes, mix)


def _check_resumed(resumed: Resumed | None, network: nn.Module, span: Length) -> int | None:
    """The step that a resumed run goes on from, its checkpoint checked against this model and length.

    A run that was stopped between its last step and the end of its test has only the test left.
    """
    if resumed is None:
        return None
    content = load(resumed.checkpoint)
    load_weights(network, content, resumed.checkpoint)
    step = int(content["global_step"])
    if span.total_steps is not None and step >= span.total_steps and JobFolder(resumed.run.path).is_finished():
        epochs = -(-step // span.steps_per_epoch)
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
    terminal: Terminal,
    span: Length,
    sizes: BatchSizes,
    book: LedgerLog | None = None,
    device_name: str = "",
    from_step: int | None = None,
) -> _Watched:
    """In the order in which each hook must run: what changes the state, what tells of it, what saves it."""
    trainer = config.trainer
    recorder = Recorder(trainer.log_every_steps, span.steps_per_epoch, sizes.global_batch_size)
    checkpoints = Checkpoints(run, trainer.checkpoint_every_steps)
    seconds = max_time_seconds(trainer.max_time) if trainer.max_time else None
    # Where only time ends a run its schedule is constant, for which any length will do.
    total_steps = span.total_steps or span.steps_per_epoch * 1000
    callbacks = watchdog()
    if trainer.ema_decay is not None:
        callbacks.append(Averaging(trainer.ema_decay))
    callbacks.append(recorder)
    if book is not None and book.ledger is not None and measures(config, span, sizes.accumulation):
        callbacks.append(Measuring(book, recorder, config.ledger.measure_steps, device_name))
    if book is not None and config.ledger.norms_every_steps:
        callbacks.append(Norms(config.ledger.norms_every_steps, run.norms, from_step))
    callbacks.append(Schedule(config.scheduler, total_steps, span.steps_per_epoch))
    if trainer.early_stopping_epochs is not None:
        callbacks.append(EarlyStopping("val/loss", patience=trainer.early_stopping_epochs, check_finite=False))
    callbacks.append(ProgressLines(terminal, recorder, span.total_steps, span.steps_per_epoch))
    callbacks.append(checkpoints)
    callbacks.append(Watch(checkpoints, seconds))
    return _Watched(callbacks, checkpoints, recorder)


def _test_best(trainer: pl.Trainer, module: Classifier, data: ImageData, run: RunFolder, config: Config) -> None:
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
    terminal: Terminal,
    loggers: Loggers,
    watched: _Watched,
    module: Classifier,
    data: ImageData,
    span: Length,
    peaks: Mapping[str, Any] | None = None,
) -> Outcome:
    bad_images = _of_all_ranks(data.skipped_images)
    summary = results.summarize(status, run, module, data, watched.checkpoints, watched.recorder, span, len(bad_images))
    summary |= peaks or {}
    if is_first_rank():
        for path, reason in sorted(bad_images.items()):
            terminal.note(f"left out: {path}: {reason}")
        results.write(run, summary, module.test_report, data.classes)
        if loggers.wandb is not None:
            flat = {key: value for key, value in summary.items() if not isinstance(value, dict)}
            loggers.wandb.log_results(flat, module.test_report.get("confusion_matrix", []), data.classes)
        if status == "finished":
            results.table(terminal, run, summary, module.config.data.source)
    # The first rank's code is the run's. A code of another's makes Lightning kill the first, which may still write.
    return Outcome(run, summary, exit_code if is_first_rank() else 0)


def _of_all_ranks(reasons: dict[str, str]) -> dict[str, str]:
    """Images left out anywhere: each rank decodes its own share."""
    if not torch.distributed.is_initialized():
        return reasons
    gathered: list[dict[str, str]] = [{}] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, reasons)
    return {path: reason for one in gathered for path, reason in one.items()}
