"""Weights that all networks of stacked cells share, as in ENAS: Pham et al. 2018 (arXiv:1802.03268), section 2.3."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from convoy.models.cells import CellModule, CellNetwork
from convoy.models.notation.cell_notation import Cell

_INPUT_WEIGHT = re.compile(r"cells\.(\d+)\.(last\.1|before\.(?:1|even|odd))\.weight")
_OPERATION = re.compile(r"cells\.(\d+)\.operations\.(\d+)\.(.*)")


class SharedCells(nn.Module):
    """Weights of every `CellNetwork` with a number of blocks and a set of operations; one of them is selected.

    An operation has its weights per cell of the stack, block, side of the sum and input state. A convolution that reads
    the output of another cell has weights for the channels of all blocks, and the selected network takes those of the
    blocks that form this output. Batch norms use the statistics of the batch also in evaluation, since the running
    statistics of one network are not those of another.

    Args:
        normal: blocks of the normal cell that is selected first (see `cell_notation`), without an entry for the output.
        reduction: blocks of the reduction cell.
        operations: that the blocks of other cells may have.
        num_classes: number of logits.
        in_channels: channels of an image.
        **network: other arguments of `CellNetwork`.
    """

    def __init__(
        self,
        normal: Sequence[str],
        reduction: Sequence[str],
        operations: Sequence[str],
        num_classes: int,
        in_channels: int = 3,
        **network: Any,
    ) -> None:
        super().__init__()
        self.blocks, self.operations = len(normal), tuple(operations)
        self._arguments = {"num_classes": num_classes, "in_channels": in_channels, **network}
        for blocks in _covering(self.blocks, self.operations):
            built = CellNetwork(blocks, blocks, **self._arguments)
            for name, parameter in built.named_parameters():
                if not hasattr(self, key := _key(name, built)):
                    self.register_parameter(key, parameter)
        self.select(normal, reduction)

    def select(self, normal: Sequence[str], reduction: Sequence[str]) -> None:
        """Select the network that `forward` runs.

        Raises:
            UserError: a cell is not in the notation.
        """
        with torch.random.fork_rng(devices=[]):  # its initial weights, which are not used, draw random numbers
            network = CellNetwork(normal, reduction, **self._arguments)
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.running_mean = module.running_var = module.num_batches_tracked = None
        self._selected = (network,)  # in a tuple, so that its weights are not saved

    def weights(self) -> dict[str, Tensor]:
        """Return the weights of the selected network by the names that they have in a `CellNetwork`."""
        (network,) = self._selected
        return {name: self._weight(name, network) for name, _ in network.named_parameters()}

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [N, num_classes] of the selected network for images [N, in_channels, H, W]."""
        (network,) = self._selected
        logits: Tensor = functional_call(network.train(self.training), self.weights(), (images,))
        return logits

    def _weight(self, name: str, network: CellNetwork) -> Tensor:
        weight: Tensor = getattr(self, _key(name, network))
        read = _cell_that_is_read(name, network)
        if read is None:
            return weight
        width = weight.shape[1] // self.blocks
        channels = [(state - 2) * width + index for state in read.output for index in range(width)]
        return weight if len(channels) == weight.shape[1] else weight[:, channels]


def _covering(blocks: int, operations: Sequence[str]) -> Iterator[list[str]]:
    """Yield cells that together have each operation at each place with each input state.

    The first ones of an operation read states 0 and 1 alone, so that all blocks form the output.
    """
    for operation in operations:
        for state in range(blocks + 1):
            for one, other in ((state, 0), (0, state)):
                yield [f"{operation} {min(one, at + 1)} + {operation} {min(other, at + 1)}" for at in range(blocks)]


def _key(name: str, network: CellNetwork) -> str:
    """Return the name of the shared weight of which a network's weight is a part."""
    if match := _OPERATION.fullmatch(name):
        cell, place = int(match[1]), int(match[2])
        kind, state = _cell(network, cell).blocks[place // 2][place % 2]
        name = f"cells.{cell}.block{place // 2}.side{place % 2}.{kind}.state{state}.{match[3]}"
    return name.replace(".", "/")


def _cell_that_is_read(name: str, network: CellNetwork) -> Cell | None:
    """Return the cell whose output a weight multiplies; None if it multiplies something else."""
    if name == "fc.weight":
        return _cell(network, len(network.cells) - 1)
    match = _INPUT_WEIGHT.fullmatch(name)
    index = -1 if match is None else int(match[1]) - (1 if match[2] == "last.1" else 2)
    return _cell(network, index) if index >= 0 else None


def _cell(network: CellNetwork, index: int) -> Cell:
    module = network.cells[index]
    assert isinstance(module, CellModule)  # others read its output
    return module.cell
