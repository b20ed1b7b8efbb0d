"""Visit of samples in blocks of consecutive ones, such as parts of a shard or row groups of a Parquet file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from convoy.data.sampling.samplers import MicroBatch

Block = TypeVar("Block")


def visit_blocks(
    batches: Iterable[MicroBatch], block_of: NDArray[np.int64], open_block: Callable[[int], Block], ahead: int
) -> Iterator[tuple[MicroBatch, list[Block]]]:
    """Yield each batch with the opened block of each of its samples.

    A block is opened once per epoch, and released after the last batch of the epoch that has one of its samples.

    Args:
        batches: samples in the order of their use.
        block_of: [samples of the split], index of each sample's block.
        open_block: function that opens a block and starts to read it.
        ahead: number of blocks that are opened before their first use.
    """
    for _, group in groupby(batches, key=lambda batch: batch.epoch):
        yield from _visit_epoch(list(group), block_of, open_block, ahead)


def _visit_epoch(
    batches: list[MicroBatch], block_of: NDArray[np.int64], open_block: Callable[[int], Block], ahead: int
) -> Iterator[tuple[MicroBatch, list[Block]]]:
    used = block_of[torch.cat([batch.samples for batch in batches]).numpy()]
    blocks, first_use = np.unique(used, return_index=True)
    last_use = len(used) - 1 - np.unique(used[::-1], return_index=True)[1]
    coming, first_use = blocks[np.argsort(first_use)], np.sort(first_use)
    leaving, last_use = blocks[np.argsort(last_use)], np.sort(last_use)
    held: dict[int, Block] = {}
    num_opened = num_left = done = 0
    for batch in batches:
        done += len(batch.samples)
        wanted = min(len(coming), int(np.searchsorted(first_use, done)) + ahead)
        for block in coming[num_opened:wanted].tolist():
            held[block] = open_block(block)
        num_opened = max(num_opened, wanted)
        yield batch, [held[block] for block in block_of[batch.samples.numpy()].tolist()]
        finished = int(np.searchsorted(last_use, done))
        for block in leaving[num_left:finished].tolist():
            del held[block]
        num_left = finished
