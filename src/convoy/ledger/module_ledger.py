"""Ledger of any module, for the Python API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import nn
from torch.optim import Optimizer

from convoy.config.faults import Fault, UserError
from convoy.ledger.build_ledger import build_ledger
from convoy.ledger.ledger_object import Ledger
from convoy.ledger.rows import UntraceableError

Precision = Literal["32", "bf16-mixed", "16-mixed"]


def ledger(
    network: nn.Module,
    input_shape: Sequence[int],
    *,
    precision: Precision = "32",
    on_cuda: bool = True,
    optimizer: Callable[[nn.Module], Optimizer] | None = None,
    micro_batch_size: int = 1,
) -> Ledger:
    """Return parameters, MACs and memory of a network's training, layer by layer.

    The network is traced without data. It is not changed, and no memory is allocated.

    Args:
        network: any module that takes a batch of images.
        input_shape: (channels, height, width) of an image.
        precision: "32", "bf16-mixed" or "16-mixed".
        on_cuda: whether mixed precision follows the rules of CUDA; otherwise those of the CPU.
        optimizer: function that builds the optimizer, such as `lambda network: SGD(network.parameters())`.
        micro_batch_size: samples per rank per forward pass.

    Raises:
        UserError: if the network does not take such images, or can't be traced without data.
    """
    try:
        return build_ledger(
            network,
            input_shape,
            name=type(network).__name__,
            precision=precision,
            on_cuda=on_cuda,
            optimizer=optimizer,
            micro_batch_size=micro_batch_size,
        )
    except UntraceableError as error:
        remedy = f"pass (channels, height, width) of images that it takes instead of {tuple(input_shape)}"
        raise UserError(Fault("network", str(error), remedy, type(network).__name__)) from error
