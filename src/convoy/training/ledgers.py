"""The ledger of a config, and of the network that a run trains."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from convoy.config.faults import Fault, UserError
from convoy.config.rules import PRECISIONS
from convoy.config.schema import Config
from convoy.data.check import num_classes
from convoy.ledger.account import account
from convoy.ledger.record import Ledger, UntraceableError
from convoy.ledger.skeleton import without_weights
from convoy.models.build import construct_model, try_on_one_image
from convoy.optim.build import build_optimizer
from convoy.training.preflight import check_targets


def ledger_of(config: Config) -> Ledger:
    """The ledger of what a config would train, without its weights, its data and its card.

    Raises:
        UserError: the model can't be built, does not take the images, or can't be followed without data.
    """
    check_targets(config)
    sizes = {
        "num_classes": num_classes(config.data),
        "in_channels": config.data.channels,
        "image_size": config.data.image_size,
    }
    # Weights have no part in a ledger: none are fetched.
    node = {key: value for key, value in config.model.items() if key != "pretrained"}
    network = without_weights(lambda: construct_model(node, **sizes))
    trainer, hardware = config.trainer, config.hardware
    if trainer.channels_last:
        network = network.to(memory_format=torch.channels_last)
    precision = hardware.precision or PRECISIONS[1] if trainer.precision == "auto" else trainer.precision
    on_cuda = trainer.gpus != 0 and hardware.accelerator != "cpu"
    gpus = trainer.gpus if isinstance(trainer.gpus, int) else 1
    ranks = max(gpus, trainer.processes) * trainer.nodes
    micro_batch_size = trainer.micro_batch_size or trainer.global_batch_size // ranks
    try:
        return network_ledger(network, config, precision, on_cuda=on_cuda, micro_batch_size=micro_batch_size)
    except UntraceableError as error:
        name = str(config.model.get("name", config.name))
        _try_without_weights(network, name, sizes)
        raise UserError(Fault("model", str(error), "train it: the run goes on without a ledger", name)) from error


def network_ledger(
    network: nn.Module, config: Config, precision: str, *, on_cuda: bool, micro_batch_size: int
) -> Ledger:
    """The ledger of a network that a config has built. The network stays as it is.

    Args:
        network: on any device.
        config: its data, optimizer and name.
        precision: 32, bf16-mixed or 16-mixed.
        on_cuda: whether mixed precision follows CUDA's rules or the CPU's.
        micro_batch_size: samples a rank in one forward pass.

    Raises:
        UntraceableError: it can't be followed without data.
    """
    data = config.data
    return account(
        network,
        (data.channels, data.image_size, data.image_size),
        name=str(config.model.get("name", config.name)),
        precision=precision,
        on_cuda=on_cuda,
        optimizer=_optimizer_of(config),
        micro_batch_size=micro_batch_size,
    )


def _optimizer_of(config: Config) -> Callable[[nn.Module], Optimizer]:
    return lambda model: build_optimizer(config.optimizer, model)


def _try_without_weights(network: nn.Module, name: str, sizes: dict[str, int]) -> None:
    """Tell of a network that does not take the images in the words of a run, rather than as untraceable."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    from convoy.ledger.skeleton import fake_copy

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    copied = fake_copy(network, mode)
    with mode:
        try_on_one_image(copied, name, **sizes)
