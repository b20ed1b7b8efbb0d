"""Lightning callbacks of a run, in the order in which their hooks must run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping

from convoy.config.faults import Fault, UserError
from convoy.config.rules import COMPILE_AUTO, max_time_seconds
from convoy.config.schema import Config
from convoy.config.targets import build
from convoy.records.ledger_log import LedgerLog, Measuring, measures
from convoy.records.metrics_logger import MetricsLogger
from convoy.records.progress import ProgressLines
from convoy.records.run_context import RunContext
from convoy.runtime.rank_store import RankStore
from convoy.runtime.watchdog import watchdog
from convoy.training.checkpoints import Checkpoints
from convoy.training.compilation import CompileChoice
from convoy.training.schedule import Schedule
from convoy.training.signals import GracefulStop

if TYPE_CHECKING:
    from convoy.training.debugging import Overfit

_STEPS_WITHOUT_LENGTH = 1000
"""Epochs of a schedule's length where only time ends the run: its schedule is constant then."""


@dataclass(frozen=True)
class Callbacks:
    """All callbacks, and those that are read at the end.

    Attributes:
        all: in order.
        checkpoints: knows the best step.
        metrics: knows training time and images/s.
        overfit: verdict on the repeated batch; None without debug.overfit_below.
    """

    all: list[pl.Callback]
    checkpoints: Checkpoints
    metrics: MetricsLogger
    overfit: Overfit | None


def build_callbacks(
    context: RunContext,
    monitor: str,
    mode: str,
    users: Sequence[pl.Callback],
    store: RankStore,
    ledger_log: LedgerLog | None = None,
) -> Callbacks:
    """Build the callbacks: first those that change the state, then those that report it, last those that save it.

    Args:
        context: of the run.
        monitor: metric that chooses the best checkpoint and stops early.
        mode: `max` or `min`.
        users: callbacks of the `callback` group.
        store: of the ranks.
        ledger_log: receives layer times and norms; None on all ranks but the first.
    """
    config, length, run = context.config, context.length, context.run
    trainer = config.trainer
    metrics = MetricsLogger(trainer.log_every_steps, length.steps_per_epoch, context.sizes.global_batch_size)
    every_steps = trainer.checkpoint_every_steps
    checkpoints = Checkpoints(run, config.checkpoint, monitor, mode, every_steps, context.console)
    total_steps = length.total_steps or length.steps_per_epoch * _STEPS_WITHOUT_LENGTH
    callbacks = watchdog()
    callbacks += _optional_before_metrics(context)
    callbacks.append(metrics)
    if trainer.compile == COMPILE_AUTO:
        callbacks.append(CompileChoice(length.total_steps, context.console))
    if (
        ledger_log is not None
        and ledger_log.ledger is not None
        and measures(config, length, context.sizes.accumulation)
    ):
        callbacks.append(Measuring(ledger_log, metrics, config.ledger.measure_steps, context.devices.name))
    if ledger_log is not None and config.ledger.norms_every_steps:
        from convoy.records.norms import Norms

        callbacks.append(Norms(config.ledger.norms_every_steps, run.norms, context.first_step))
    callbacks.append(Schedule(config.scheduler, total_steps, length.steps_per_epoch))
    if trainer.early_stopping_epochs is not None:
        callbacks.append(_early_stopping(trainer.early_stopping_epochs, monitor, mode))
    overfit: Overfit | None = None
    if config.debug.is_on:
        from convoy.training.debugging import FirstLoss, Overfit

        callbacks.append(FirstLoss(context.console))
        if config.debug.overfit_below is not None:
            overfit = Overfit(config.debug.overfit_below, context.console)
            callbacks.append(overfit)
    callbacks += users
    callbacks.append(ProgressLines(context.console, metrics, length.total_steps, length.steps_per_epoch))
    callbacks.append(checkpoints)
    seconds = max_time_seconds(trainer.max_time) if trainer.max_time else None
    callbacks.append(GracefulStop(checkpoints, context.console, seconds, store))
    return Callbacks(callbacks, checkpoints, metrics, overfit)


def _optional_before_metrics(context: RunContext) -> list[pl.Callback]:
    """Build the callbacks that change the state and that most runs do not have; other modules are not imported."""
    config = context.config
    trainer, found = config.trainer, list[pl.Callback]()
    if config.debug.profile_steps and context.is_first_rank:
        from convoy.training.step_profile import StepProfile

        found.append(StepProfile(context.run, config.debug.profile_steps, context.console))
    if trainer.ema_decay is not None:
        from convoy.training.ema import WeightEma

        found.append(WeightEma(trainer.ema_decay))
    if trainer.swa_start_epoch is not None:
        from convoy.training.ema import WeightSwa

        found.append(WeightSwa(trainer.swa_start_epoch, context.length.steps_per_epoch))
    if config.model.get("unfreeze_epoch") is not None:
        from convoy.training.unfreezing import Unfreezing

        found.append(Unfreezing(context.console))
    return found


def build_user_callbacks(config: Config, monitor: str, mode: str) -> list[pl.Callback]:
    """Build the callbacks of the `callback` group.

    Args:
        config: of the run.
        monitor: metric that chooses the best checkpoint and stops early.
        mode: `max` or `min`.

    Raises:
        UserError: a callback can't be built, or a checkpoint can't contain the states of two of them.
    """
    owners, patience = {}, config.trainer.early_stopping_epochs
    if patience is not None:
        owners[_early_stopping(patience, monitor, mode).state_key] = "trainer.early_stopping_epochs"
    built = []
    for name, node in config.callback.items():
        callback, key = _built(name, node), f"callback.{name}"
        if type(callback).state_dict is not pl.Callback.state_dict:
            other = owners.setdefault(callback.state_key, key)
            if other != key:
                rule = f"saves its state under the same name as {other}: {callback.state_key}"
                remedy = f"remove {key} or {other}, or give them different settings"
                raise UserError(Fault(key, rule, remedy, str(node["_target_"])))
        built.append(callback)
    return built


def _early_stopping(patience: int, monitor: str, mode: str) -> EarlyStopping:
    return EarlyStopping(monitor, mode=mode, patience=patience, check_finite=False, check_on_train_epoch_end=False)


def _built(name: str, node: Mapping[str, Any]) -> pl.Callback:
    callback = build(f"callback.{name}", node)
    if not isinstance(callback, pl.Callback):
        rule = "is not a Lightning callback"
        remedy = "derive it from pytorch_lightning.Callback"
        raise UserError(Fault(f"callback.{name}._target_", rule, remedy, str(node["_target_"])))
    return callback
