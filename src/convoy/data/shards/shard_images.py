"""Images of a split in shards, read in an order that stays close to their sequence in the files."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convoy.config.faults import UserError
from convoy.data.images.decode import LazyImage, image_of_pixels, open_encoded
from convoy.data.images.pixel_format import PixelFormat
from convoy.data.reading.split_images import IndexedBatch, OpenBatch
from convoy.data.sampling.block_visits import visit_blocks
from convoy.data.sampling.samplers import MicroBatch
from convoy.data.shards.read_ahead import Block, BlockSource, damaged
from convoy.data.shards.shard_index import COLUMNS, Index, Split
from convoy.data.shards.storage import Storage

BLOCK_BYTES = 8 << 20
"""Approximate bytes of one request to a store."""

BLOCKS_AHEAD = 8
"""Number of blocks that are requested in advance."""

Table = NDArray[np.unsignedinteger[Any]]
"""[samples, 4], see `COLUMNS`."""


def read_table(storage: Storage, split: Split) -> Table:
    """Read the table of a split's samples.

    Raises:
        UserError: if the table is missing or damaged.
    """
    try:
        content = storage.read(split.table)
    except FileNotFoundError as error:
        raise damaged(storage.root, split.table, "is missing") from error
    if hashlib.sha256(content).hexdigest() != split.sha256:
        raise damaged(storage.root, split.table, "is damaged (its checksum differs)")
    table: Table = np.load(io.BytesIO(content))
    assert table.shape == (split.num_samples, len(COLUMNS)), "the checksum is correct"
    return table


def check_files(storage: Storage, index: Index) -> None:
    """Check that all shards exist and have the recorded size.

    Raises:
        UserError: if shards are missing or have another size; one fault per shard.
    """
    sizes = storage.sizes()
    if sizes is None:
        return
    wrong = []
    for split in index.splits.values():
        for shard in split.shards:
            if shard.file not in sizes:
                wrong.append(damaged(storage.root, shard.file, "is missing"))
            elif sizes[shard.file] != shard.num_bytes:
                what = f"has {sizes[shard.file]:,} bytes instead of {shard.num_bytes:,}"
                wrong.append(damaged(storage.root, shard.file, what))
    if wrong:
        raise UserError(*(fault for error in wrong for fault in error.faults))


class ShardImages:
    """Images of a split in shards."""

    located = None

    def __init__(self, storage: Storage, index: Index, split: Split, form: PixelFormat) -> None:
        """Read the table of the samples.

        Args:
            storage: storage of the data set.
            index: index of the data set.
            split: the split.
            form: format of the pixels.

        Raises:
            UserError: if the table is missing or damaged.
        """
        self._storage = storage
        self._format = form
        self._is_raw = index.format == "raw"
        self._size = index.size
        self._files = [shard.file for shard in split.shards]
        table = read_table(storage, split)
        self._begins = table[:, 0].astype(np.int64)
        self._ends = self._begins + table[:, 1]
        self._checksums = table[:, 3]
        self.targets = torch.from_numpy(table[:, 2].astype(np.int64))
        self._shards = np.repeat(np.arange(len(split.shards)), [shard.num_samples for shard in split.shards])
        block_in_shard = self._begins // BLOCK_BYTES
        is_first = np.ones(len(table), dtype=bool)
        is_first[1:] = (np.diff(self._shards) != 0) | (np.diff(block_in_shard) != 0)
        self._blocks = np.cumsum(is_first) - 1
        self._first_of_block = np.flatnonzero(is_first)
        self._last_of_block = np.append(self._first_of_block[1:], len(table)) - 1

    def __len__(self) -> int:
        return len(self.targets)

    def name(self, sample: int) -> str:
        """See `SplitImages`."""
        return f"{self._storage.root}/{self._files[self._shards[sample]]}, image {sample}"

    def visit(self, batches: Iterable[MicroBatch]) -> Iterator[tuple[MicroBatch, OpenBatch]]:
        """See `SplitImages`. Blocks are opened `BLOCKS_AHEAD` before their first use in an epoch."""
        with BlockSource(self._storage, mapped=self._is_raw) as source:
            opened = visit_blocks(batches, self._blocks, lambda block: self._open(source, block), BLOCKS_AHEAD)
            for batch, blocks in opened:
                yield batch, IndexedBatch(batch, self._opener(batch, blocks), self.targets)

    def _open(self, source: BlockSource, block: int) -> Block:
        first, last = self._first_of_block[block], self._last_of_block[block]
        return source.open(self._files[self._shards[first]], int(self._begins[first]), int(self._ends[last]))

    def _opener(self, batch: MicroBatch, blocks: list[Block]) -> Callable[[int], LazyImage]:
        samples = batch.samples.tolist()
        return lambda place: self._image(samples[place], blocks[place])

    def _image(self, sample: int, block: Block) -> LazyImage:
        content = block.bytes_at(int(self._begins[sample]), int(self._ends[sample]))
        if isinstance(content, memoryview):
            # No checksum for mapped memory: a crop reads only its rows, a checksum would read all of them.
            return self._pixels(content)
        if zlib.crc32(content) != self._checksums[sample]:
            file = self._files[self._shards[sample]]
            raise damaged(self._storage.root, file, "is damaged (an image's checksum differs)")
        if self._is_raw:
            return self._pixels(content)
        assert isinstance(content, bytearray)
        return open_encoded(self.name(sample), content, self._format)

    def _pixels(self, content: bytearray | memoryview) -> LazyImage:
        pixels = np.frombuffer(content, dtype=np.uint8)
        return image_of_pixels(pixels.reshape(self._size, self._size, 3), self._format.channels)
