"""Ledgers of a config and of the network that a run trains."""

from __future__ import annotations

from torch import nn

from convoy.config.faults import Fault, UserError
from convoy.config.image_size import sides_of
from convoy.config.schema import Config
from convoy.ledger.build_ledger import build_ledger
from convoy.ledger.ledger_object import Ledger
from convoy.ledger.rows import UntraceableError
from convoy.optim.build_optimizer import check_targets
from convoy.planner.workload import (
    batch_sizes,
    name_of,
    on_cuda,
    optimizer_of,
    precision_on,
    refuse_untraceable,
    skeleton,
)


def ledger_of(config: Config) -> Ledger:
    """Return the ledger of the network that a config trains, without weights, data or a GPU.

    Raises:
        UserError: The model can't be built, does not take the images, or can't be traced without data.
    """
    check_targets(config)
    network = skeleton(config)
    cuda, micro = on_cuda(config, config.hardware), batch_sizes(config).micro_batch_size
    precision = precision_on(config, config.hardware)
    try:
        return network_ledger(network, config, precision, on_cuda=cuda, micro_batch_size=micro)
    except UntraceableError as error:
        refuse_untraceable(network, config)
        raise UserError(
            Fault("model", str(error), "train it; the run continues without a ledger", name_of(config))
        ) from error


def network_ledger(
    network: nn.Module, config: Config, precision: str, *, on_cuda: bool, micro_batch_size: int
) -> Ledger:
    """Return the ledger of a network that a config has built. The network is not changed.

    Args:
        network: Network on any device.
        config: Config with the data, the optimizer and the name.
        precision: "32", "bf16-mixed" or "16-mixed".
        on_cuda: Whether mixed precision follows the rules of CUDA; otherwise those of the CPU.
        micro_batch_size: Samples per rank per forward pass.

    Raises:
        UntraceableError: The network can't be traced without data.
    """
    data = config.data
    return build_ledger(
        network,
        (data.channels, *sides_of(data.image_size)),
        name=name_of(config),
        precision=precision,
        on_cuda=on_cuda,
        optimizer=lambda model: optimizer_of(config, model),
        micro_batch_size=micro_batch_size,
    )
