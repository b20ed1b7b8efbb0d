"""Data module and Lightning module of a run from its config."""

from __future__ import annotations

import pytorch_lightning as pl
import torch

from convoy.config.schema import Config
from convoy.data.check import network_sizes
from convoy.data.data_module import ImageData
from convoy.models.building.build import build_model
from convoy.planner.workload import checkpointed
from convoy.records.run_context import eval_batch_size
from convoy.tasks.construction import build_task, check_shapes
from convoy.training.compilation import compile_network
from convoy.training.lightning_module import TrainingModule
from convoy.training.machine import Machine


def open_data(machine: Machine) -> ImageData:
    """Open the data of a run for its division of the batch; with debug.overfit_below a repeated batch."""
    config, sizes = machine.config, machine.sizes
    kind = ImageData
    if config.debug.overfit_below is not None:
        from convoy.data.batches.repeated_batch import RepeatedBatch

        kind = RepeatedBatch
    data = kind(
        config.data,
        seed=config.seed,
        micro_batch_size=sizes.micro_batch_size,
        accumulation=sizes.accumulation,
        eval_batch_size=eval_batch_size(config, sizes),
        channels_last=config.trainer.channels_last,
        max_steps=config.trainer.max_steps,
    )
    data.open()
    return data


def build_module(config: Config, data: ImageData, world_size: int = 1) -> TrainingModule:
    """Build the task and the network of a run, with the initial weights of its seed.

    Args:
        config: of the run.
        data: opened.
        world_size: number of ranks.

    Raises:
        UserError: the task or the network can't be built.
    """
    task = build_task(config, data.targets, data.class_counts)
    task.prepare(config.data)
    check_shapes(task, config)
    pl.seed_everything(config.seed, verbose=False)
    sizes = network_sizes(data.data, task.num_outputs)
    network = build_model(config.model, **sizes, output_check=task.output_check)
    if config.trainer.sync_batchnorm and world_size > 1:
        network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    if config.trainer.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if config.trainer.activation_checkpointing:
        checkpointed(network, config)
    compile_network(network, config.trainer.compile)
    return TrainingModule(network, config, task)
