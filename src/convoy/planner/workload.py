"""Training described by a config, without weights, data and GPU: for the ledger and the planner."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer

from convoy.config.batch import BatchSizes, divide
from convoy.config.faults import Fault, UserError
from convoy.config.rules import PRECISIONS
from convoy.config.schema import Config, HardwareConfig
from convoy.data.check import network_sizes, num_targets
from convoy.data.targets import Targets
from convoy.ledger.skeleton import fake_copy, without_torchs_tracebacks, without_weights
from convoy.models.building.build import construct_model, try_on_one_image
from convoy.models.building.recompute import recompute_activations
from convoy.optim.build_optimizer import build_optimizer
from convoy.tasks.construction import build_task
from convoy.tasks.task import Task


def task_of(config: Config) -> Task:
    """Build the task of a config without its data.

    Raises:
        UserError: If the task can't be built.
    """
    return build_task(config, Targets.unnamed(config.data.target, num_targets(config.data)))


def model_sizes(config: Config) -> dict[str, Any]:
    """Return the sizes that a network depends on, see `network_sizes`, with the outputs of the task.

    Raises:
        UserError: If the classes can't be counted, or the task can't be built.
    """
    return network_sizes(config.data, task_of(config).num_outputs)


def name_of(config: Config) -> str:
    """Return the model's name."""
    return str(config.model.get("name", config.name))


def skeleton(config: Config) -> nn.Module:
    """Return the network on the meta device, in the memory format of training.

    Raises:
        UserError: If the model can't be built.
    """
    # Pretrained weights are not needed and not downloaded.
    node = {key: value for key, value in config.model.items() if key != "pretrained"}
    sizes = model_sizes(config)
    network = without_weights(lambda: construct_model(node, **sizes))
    if config.trainer.activation_checkpointing:
        checkpointed(network, config)
    return network.to(memory_format=torch.channels_last) if config.trainer.channels_last else network


def checkpointed(network: nn.Module, config: Config) -> None:
    """Make a network recompute its blocks in the backward pass.

    Raises:
        UserError: If it has no blocks.
    """
    if not recompute_activations(network):
        rule = f"finds no blocks in {name_of(config)} that can be recomputed"
        raise UserError(Fault("trainer.activation_checkpointing", rule, "omit it", "true"))


def optimizer_of(config: Config, network: nn.Module, *, fuse: bool = False) -> Optimizer:
    """Return the config's optimizer for a network's parameters, fused if `fuse` is set and it is possible."""
    fuse = fuse and config.model.get("unfreeze_epoch") is None  # as in training
    return build_optimizer(config.optimizer, network, fuse=fuse)


def precision_on(config: Config, hardware: HardwareConfig) -> str:
    """Return the precision on a card: 32, bf16-mixed or 16-mixed."""
    asked: Any = config.trainer.precision
    return (hardware.precision or PRECISIONS[1]) if asked == "auto" else str(asked)


def on_cuda(config: Config, hardware: HardwareConfig) -> bool:
    """Return whether the training uses a GPU."""
    return config.trainer.gpus != 0 and hardware.accelerator != "cpu"


def batch_sizes(config: Config) -> BatchSizes:
    """Return the global batch divided over ranks; with the largest possible micro batch for auto.

    Raises:
        UserError: If it can't be divided evenly.
    """
    trainer = config.trainer
    gpus = trainer.gpus if isinstance(trainer.gpus, int) else 1
    ranks = max(gpus, trainer.processes) * trainer.nodes
    micro = trainer.micro_batch_size if isinstance(trainer.micro_batch_size, int) else None
    return divide(trainer.global_batch_size, micro, ranks)


def refuse_untraceable(network: nn.Module, config: Config) -> None:
    """Raise the error of a run, instead of "untraceable", if the network does not accept the images.

    Raises:
        UserError: If it does not accept the images.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    copied, check, sizes = fake_copy(network, mode), task_of(config).output_check, model_sizes(config)
    with without_torchs_tracebacks(), mode:
        try_on_one_image(copied, config.model, sizes, check)
