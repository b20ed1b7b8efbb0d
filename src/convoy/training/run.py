"""A training run from its checked config to its summary; `train` is the whole story from top to bottom."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from pytorch_lightning.trainer.states import TrainerFn

from convoy.cluster.run_lease import is_this_jobs
from convoy.config.faults import Fault, UserError, one_line, printable
from convoy.config.run_length import run_length
from convoy.config.schema import Config
from convoy.config.trust import TRUST
from convoy.data.data_module import ImageData
from convoy.models.building.freezing import note_on
from convoy.records.console import Console
from convoy.records.ledger_log import open_ledger_log
from convoy.records.loggers import Loggers, open_loggers
from convoy.records.mistakes import Mistake
from convoy.records.run_context import RunContext
from convoy.records.wandb_logger import OpenRecord
from convoy.runs.layout import RunFolder, create, shown, write_start
from convoy.runs.lock import RunLock
from convoy.runs.os_errors import is_fault_of_environment
from convoy.runs.records import read_summary
from convoy.runs.whole_files import remove_partials
from convoy.runtime import machine_record
from convoy.runtime.cpu_cores import CoreTimes
from convoy.runtime.machine_record import Recorded
from convoy.runtime.rank_launcher import end_ranks
from convoy.runtime.rank_store import RankStore, from_first_rank
from convoy.runtime.rank_watch import WATCH
from convoy.runtime.ranks import is_first_rank, is_launched, share_run_folder, shared_run_folder
from convoy.runtime.stop_signals import StopSignal, complete, end_at_once
from convoy.training import summary as run_summary
from convoy.training.callbacks import Callbacks, build_callbacks, build_user_callbacks
from convoy.training.gpu_memory import CudaCounters, PeakMemory, comparison
from convoy.training.lightning_module import NotFiniteError, TrainingModule
from convoy.training.lost_rank import lost_rank
from convoy.training.machine import check_with_torch, choose_machine
from convoy.training.out_of_memory import BEGUN_FOLDER, OutOfMemory
from convoy.training.out_of_memory_errors import is_out_of_memory
from convoy.training.resume import (
    Resumed,
    check_step,
    has_ended,
    lacks_page,
    load,
    load_weights,
    longer_end,
)
from convoy.training.run_parts import build_module, open_data
from convoy.training.signals import StoppedError
from convoy.training.trainer import build_trainer


@dataclass(frozen=True)
class Outcome:
    """End of a run: its folder, the summary it wrote, and the exit code of the command."""

    run: RunFolder
    summary: dict[str, Any]
    exit_code: int


@dataclass(frozen=True)
class _Parts:
    """Objects of a run that its end needs."""

    module: TrainingModule
    data: ImageData
    loggers: Loggers
    callbacks: Callbacks
    memory: PeakMemory


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
        overrides: the command line's overrides, for the record.
        resumed: the run to resume; its config is `config`.
        restarts: whether this process may restart itself with a smaller micro batch when a GPU runs out of memory.
        since: start of a time, such as that of the imports, in which other processes are watched.

    Returns:
        The folder, the summary and the exit code.

    Raises:
        UserError: a fault that only shows with torch, the data or the checkpoint at hand. Nothing is written.
    """
    if faults := TRUST.path_faults(config, is_new=resumed is None and BEGUN_FOLDER not in os.environ):
        raise UserError(*faults)
    check_with_torch(config)
    recorded = Recorded.of(resumed.environment) if resumed else None
    machine = choose_machine(config, since, recorded)
    config = machine.config
    data = open_data(machine)
    length = run_length(
        config.trainer.max_epochs, config.trainer.max_steps, data.steps_per_epoch(machine.devices.world_size)
    )
    module = build_module(config, data, machine.devices.world_size)
    first_step = check_step(resumed, module) if resumed else None
    if resumed and first_step is not None and has_ended(resumed, first_step, length):
        resumed.lock.release()
        if is_first_rank() and not lacks_page(resumed):
            raise UserError(longer_end(resumed, first_step, length))
        return Outcome(resumed.run, read_summary(resumed.run.summary), 0)
    user_callbacks = build_user_callbacks(config, module.task.monitor, module.task.mode)

    first = is_first_rank()
    run, console = _own_folder(config, resumed), Console(speaking=first)
    lock = resumed.lock if resumed else RunLock(run.path)
    context = RunContext(config, machine.devices, machine.sizes, length, run, console, first_step, first)
    try:
        _record_start(context, lock, overrides)
        checkpoint = resumed.checkpoint if resumed else None
        return _train(context, module, data, user_callbacks, machine.notices, checkpoint, restarts=restarts)
    except StopSignal as stop:  # before training, or while another fault ends it
        console.say(f"{stop}; {run_summary.kept(run)}")
        return Outcome(run, {"status": "stopped"}, stop.exit_code)
    except OSError as error:
        if not is_fault_of_environment(error):
            raise
        run_summary.report_os_error(console, run, error)
        return Outcome(run, {"status": "failed"}, 1)
    finally:
        lock.release()
        console.close()
        share_run_folder(None)


def _train(
    context: RunContext,
    module: TrainingModule,
    data: ImageData,
    user_callbacks: Sequence[pl.Callback],
    notices: Sequence[str],
    checkpoint: Path | None,
    *,
    restarts: bool,
) -> Outcome:
    """Train in a folder whose start is recorded, from a checkpoint if there is one."""
    config = context.config
    loggers = open_loggers(context, asdict(config))
    ledger_log = open_ledger_log(module.network, context, loggers.wandb) if context.is_first_rank else None
    frozen = note_on(config.model)
    ledger_notice = ledger_log.notice if ledger_log else ""
    notices = [*loggers.notices, *notices, *(text for text in (ledger_notice, frozen) if text)]
    store = RankStore()
    callbacks = build_callbacks(context, module.task.monitor, module.task.mode, user_callbacks, store, ledger_log)
    parts = _Parts(module, data, loggers, callbacks, PeakMemory(CudaCounters()))
    recovery = OutOfMemory(context.run, context.sizes, context.eval_batch_size, context.console, store)
    trainer = build_trainer(context, loggers.all, [store, *_ordered(context, parts, recovery if restarts else None)])
    run_summary.announce(context, data, module, notices)

    WATCH.kept = lambda: run_summary.kept(context.run)
    if context.is_first_rank:
        WATCH.say = context.console.say
    exit_code, agreed = 1, False
    try:
        outcome = _fit_and_test(trainer, context, parts, checkpoint)
        exit_code, agreed = outcome.exit_code, True
        return outcome
    except StopSignal as stop:
        WATCH.stop()
        stage = "the test" if trainer.state.fn == TrainerFn.TESTING else "training"
        context.console.say(f"{stop} during {stage}; {run_summary.kept(context.run)}")
        exit_code = stop.exit_code
        _conclude(exit_code, "stopped", context, parts, alone=True)
        return Outcome(context.run, {"status": "stopped"}, exit_code)
    except Exception as error:
        if restarts and is_out_of_memory(error):
            # The recovery found nothing left to halve. The other ranks can't be asked for anything any more.
            run_summary.report_out_of_memory(context.console, error)
            return Outcome(context.run, {"status": "out of memory"}, exit_code)
        loss = lost_rank(error) if context.devices.world_size > 1 else None
        if loss is None:
            raise
        WATCH.report(loss)
        exit_code = loss.exit_code
        return Outcome(context.run, {"status": "lost rank"}, exit_code)
    finally:
        end_at_once()
        store.stop()
        end_ranks(trainer, agreed=agreed)
        loggers.finish(exit_code)


def _fit_and_test(trainer: pl.Trainer, context: RunContext, parts: _Parts, checkpoint: Path | None) -> Outcome:
    """Train and test to an end that all ranks come to together."""
    try:
        trainer.fit(parts.module, datamodule=parts.data, ckpt_path=checkpoint, weights_only=True)
        _test_best(trainer, context, parts)
        overfit = parts.callbacks.overfit
        return _conclude(int(overfit is not None and overfit.failed), "finished", context, parts)
    except StoppedError as stop:
        context.console.say(f"{stop}; to resume: convoy train resume={shown(context.run.path)}")
        return _conclude(128 + stop.signal, "stopped", context, parts)
    except NotFiniteError as broken:
        run_summary.report_not_finite(context, broken, parts.callbacks.checkpoints.best_step)
        return _conclude(1, "not finite", context, parts)


def _record_start(context: RunContext, lock: RunLock, overrides: Sequence[str]) -> None:
    """Lock the run's folder, remove what killed processes have left in it, and write the records of a start."""
    run = context.run
    if not context.is_first_rank:
        context.console.log_to(run.log)
        return
    # A Slurm job's folder has a lease instead: a rank of an earlier start leaves when a later one has it.
    if not is_this_jobs(run.path):
        lock.acquire()
    for folder in (run.path, run.checkpoints):
        remove_partials(folder)
    context.console.log_to(run.log)
    machine = machine_record.described(context.devices, deterministic=context.config.trainer.deterministic)
    write_start(run, OmegaConf.to_yaml(asdict(context.config)), list(overrides), machine)


def _own_folder(config: Config, resumed: Resumed | None) -> RunFolder:
    """Return the folder of the run, which the first rank creates."""
    shared = shared_run_folder()
    if shared is not None:
        return RunFolder(shared)
    begun = os.environ.pop(BEGUN_FOLDER, None)
    if begun is not None or resumed:
        run = resumed.run if resumed else RunFolder(Path(str(begun)))
    elif config.folder is not None and is_this_jobs(Path(config.folder)):
        run = create(Path(config.output_root), config.name, config.folder, claimed=True)
    else:
        run = _new_folder(config)
    share_run_folder(run.path)
    return run


def _new_folder(config: Config) -> RunFolder:
    """Create the folder of a new run, or receive it from the first of the ranks that a launcher has started."""
    root = Path(config.output_root)
    if not is_launched():
        return create(root, config.name, config.folder)
    created = str(create(root, config.name, config.folder).path) if is_first_rank() else None
    try:
        return RunFolder(Path(from_first_rank(created)))
    except RuntimeError as error:
        rule = f"is not known to this rank, since the connection to the first one is lost ({one_line(error)})"
        raise UserError(Fault("folder", rule, "repair what ended the first rank, and start all ranks again")) from error


def _ordered(context: RunContext, parts: _Parts, recovery: OutOfMemory | None) -> list[pl.Callback]:
    """Return the callbacks with those that go around them: the first to see an exception comes first."""
    ordered: list[pl.Callback] = [] if recovery is None else [recovery]
    if parts.loggers.wandb is not None:
        ordered.append(OpenRecord(parts.loggers.wandb))
    ordered += parts.callbacks.all
    return [*ordered, parts.memory] if context.devices.accelerator == "cuda" else ordered


def _test_best(trainer: pl.Trainer, context: RunContext, parts: _Parts) -> None:
    """Test with the weights that were best on val; the test split chooses nothing.

    Without a test split, the tables and images of the test are those of val.
    """
    if not context.config.trainer.test:
        return
    module, has_test = parts.module, bool(parts.data.sizes.get("test"))
    module.tested = "test" if has_test else "val"
    trainer.strategy.barrier("best.ckpt")
    best_step = parts.callbacks.checkpoints.best_step
    best = context.run.last if best_step is None else context.run.best
    content = load(best)
    if best_step not in (None, content["global_step"]):
        rule = f"is of step {content['global_step']}, and the best is step {best_step}"
        raise UserError(Fault("checkpoint", rule, f"resume={shown(context.run.path)} restores it", str(best)))
    load_weights(parts.module.network, content, best)
    batches = parts.data.test_dataloader() if has_test else parts.data.val_dataloader()
    trainer.test(module, dataloaders=batches, verbose=False)
    if torch.distributed.is_initialized():
        ranks: list[list[Mistake]] = [[]] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(ranks, module.mistakes.found)
        module.mistakes.found = []
        for found in ranks:
            module.mistakes.merge(found)


def _conclude(exit_code: int, status: str, context: RunContext, parts: _Parts, *, alone: bool = False) -> Outcome:
    """Write the summary; `alone` where the other ranks can't be asked for anything any more."""
    bad_images = parts.data.skipped_images if alone else _of_all_ranks(parts.data.skipped_images)
    summary = run_summary.summarize(status, context, parts.module, parts.data, parts.callbacks, len(bad_images))
    if status != "stopped":
        complete()
    if context.is_first_rank:
        if status == "finished":
            summary |= comparison(context.config, context.devices, parts.memory.measured)
        for path, reason in sorted(bad_images.items()):
            context.console.note(printable(f"skipped: {path}: {reason}"))
        report = parts.module.test_report
        parts.module.mistakes.write(context.run.mistakes, parts.module.tested)
        run_summary.write(context.run, summary, report)
        if parts.loggers.wandb is not None:
            flat = {key: value for key, value in summary.items() if not isinstance(value, dict)}
            parts.loggers.wandb.log_results(flat, report.tables, context.run.mistakes)
        if status == "finished":
            run_summary.print_results(context, summary, parts.module.task)
    # The first rank's code is the run's. Another rank's code makes Lightning kill the first, which may still write.
    return Outcome(context.run, summary, exit_code if context.is_first_rank else 0)


def _of_all_ranks(reasons: dict[str, str]) -> dict[str, str]:
    """Return the images skipped by any rank; each rank decodes a separate share."""
    if not torch.distributed.is_initialized():
        return reasons
    gathered: list[dict[str, str]] = [{}] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, reasons)
    return {path: reason for one in gathered for path, reason in one.items()}
