"""Lightning's Trainer from a config, in code: the one place that knows its arguments."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytorch_lightning as pl
import torch
import torch.distributed
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import DDPStrategy

from convoy.config.batch import BatchSizes
from convoy.config.run_length import RunLength
from convoy.config.schema import Config
from convoy.runs.layout import RunFolder
from convoy.runtime.devices import Devices

_RANK_VARIABLES = ("RANK", "SLURM_PROCID", "LOCAL_RANK")


def is_first_rank() -> bool:
    """Whether this process speaks and writes for the run, known before any process group stands."""
    return next((os.environ[name] for name in _RANK_VARIABLES if name in os.environ), "0") == "0"


def end_process_group() -> None:
    """Destroy the process group, if there is one.

    Gloo's worker threads hold tensors that Python owns. A thread that releases one while the interpreter is being
    finalized ends the process with SIGABRT, which hides its exit code.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def use_threads(devices: Devices) -> None:
    """Give this process's CPU operations the threads that are its share; more than cores is many times slower."""
    torch.set_num_threads(devices.cpu_threads)
    if devices.accelerator == "cuda":
        # TF32 for what autocast leaves in float32 (Ampere and newer; ignored elsewhere).
        torch.set_float32_matmul_precision("high")


def build_trainer(
    config: Config,
    devices: Devices,
    length: RunLength,
    sizes: BatchSizes,
    loggers: Sequence[Logger],
    callbacks: Sequence[pl.Callback],
    run: RunFolder,
) -> pl.Trainer:
    """The Trainer of one run.

    `max_steps` is not Lightning's to count: with it, Lightning takes every resumed run for one that was stopped
    in the middle of an epoch. The last epoch's loader is as short as it must be instead (see `position`).
    """
    trainer = config.trainer
    return pl.Trainer(
        accelerator=devices.accelerator,
        devices=devices.per_node,
        num_nodes=devices.nodes,
        strategy=_strategy(devices),
        precision=devices.precision,  # type: ignore[arg-type]
        max_epochs=length.epochs if length.epochs is not None else -1,
        accumulate_grad_batches=sizes.accumulation,
        gradient_clip_val=trainer.clip_grad_norm,
        deterministic=trainer.deterministic,
        benchmark=not trainer.deterministic,
        logger=list(loggers) or False,
        callbacks=list(callbacks),
        plugins=[SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else None,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run.path,
    )


def _strategy(devices: Devices) -> str | DDPStrategy:
    if devices.world_size == 1:
        return "auto"
    backend = "nccl" if devices.accelerator == "cuda" else "gloo"
    return DDPStrategy(process_group_backend=backend, gradient_as_bucket_view=True)
