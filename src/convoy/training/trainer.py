"""Lightning's Trainer from a config, in code: the one place that knows its arguments."""

from __future__ import annotations

from collections.abc import Sequence

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector

from convoy.records.run_context import RunContext
from convoy.runtime.devices import Devices
from convoy.runtime.rank_launcher import RankStrategy
from convoy.training.checkpoint_files import CheckpointFiles


def build_trainer(context: RunContext, loggers: Sequence[Logger], callbacks: Sequence[pl.Callback]) -> pl.Trainer:
    """Build the Trainer of a run.

    `max_steps` is not left to Lightning: with it, Lightning takes every resumed run for one that was stopped in the
    middle of an epoch. The loader of the last epoch is as short as it must be instead (see `loop_state`).
    """
    config, devices, length, run = context.config, context.devices, context.length, context.run
    trainer = config.trainer
    built = pl.Trainer(
        accelerator=devices.accelerator,
        devices=devices.per_node,
        num_nodes=devices.nodes,
        strategy=_strategy(devices),
        precision=devices.precision,  # type: ignore[arg-type]
        max_epochs=length.epochs if length.epochs is not None else -1,
        accumulate_grad_batches=context.sizes.accumulation,
        gradient_clip_val=trainer.clip_grad_norm,
        limit_val_batches=config.debug.eval_batches,
        limit_test_batches=config.debug.eval_batches,
        detect_anomaly=config.debug.detect_anomaly,
        deterministic=trainer.deterministic,
        benchmark=not trainer.deterministic,
        logger=list(loggers) or False,
        callbacks=list(callbacks),
        plugins=[CheckpointFiles(), *([SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else [])],
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),  # if not, none is added
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run.lightning,
    )
    built._signal_connector = _NoSignals(built)
    # A broadcast and a device read per batch, for the handler that is replaced above.
    built.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    return built


class _NoSignals(_SignalConnector):
    """Replacement for Lightning's handling of SIGTERM, which runs a collective operation within the handler."""

    def register_signal_handlers(self) -> None:
        """Leave the handlers of `stop_signals` and `GracefulStop` as they are."""


def _strategy(devices: Devices) -> str | RankStrategy:
    if devices.world_size == 1:
        return "auto"
    backend = "nccl" if devices.accelerator == "cuda" else "gloo"
    return RankStrategy(process_group_backend=backend, gradient_as_bucket_view=True)
