"""Images of a split that are read in blocks of rows while training runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from torch import Tensor

from convoy.data.images.decode import LazyImage, open_encoded
from convoy.data.images.pixel_format import PixelFormat
from convoy.data.listing.image_files import ImageFiles
from convoy.data.reading.split_images import IndexedBatch, OpenBatch
from convoy.data.sampling.block_visits import visit_blocks
from convoy.data.sampling.samplers import MicroBatch
from convoy.data.shards.order import ShardOrder

READING_THREADS = 4
"""Threads that read blocks. They wait for a disk or a network most of the time."""


class BlockImages:
    """Images of a split whose rows are stored in blocks, such as the row groups of Parquet files.

    Only the blocks of the images that are used next are in memory, see `visit_blocks`.
    """

    located = None

    def __init__(self, files: ImageFiles, targets: Tensor, form: PixelFormat) -> None:
        """Store the images.

        Args:
            files: images of the split, with `blocks` and `rows`.
            targets: one per image, as `convoy.data.targets` describes for their kind.
            form: format of the pixels.
        """
        assert files.blocks is not None, "they are stored in blocks"
        assert files.rows is not None, "they are stored in blocks"
        self.targets = targets
        self._names = files.paths
        self._format = form
        self._source = files.blocks
        self._rows = files.rows
        ends = np.cumsum(self._source.sizes)
        self._block_of = np.searchsorted(ends, np.array(self._rows, dtype=np.int64), side="right")

    def __len__(self) -> int:
        return len(self._rows)

    def name(self, sample: int) -> str:
        """See `SplitImages`."""
        return self._names[sample]

    def order(self, seed: int, buffer: int) -> ShardOrder:
        """Return the order of training, in which the blocks are the shards."""
        return ShardOrder(np.bincount(self._block_of, minlength=len(self._source.sizes)).tolist(), seed, buffer)

    def visit(self, batches: Iterable[MicroBatch]) -> Iterator[tuple[MicroBatch, OpenBatch]]:
        """See `SplitImages`."""
        pool = ThreadPoolExecutor(READING_THREADS, thread_name_prefix="convoy-read")
        is_complete = False
        try:
            opened = visit_blocks(
                batches, self._block_of, lambda block: pool.submit(self._source.read, block), self._source.ahead
            )
            for batch, blocks in opened:
                yield batch, IndexedBatch(batch, self._opener(batch, blocks), self.targets)
            is_complete = True
        finally:
            pool.shutdown(wait=True, cancel_futures=not is_complete)

    def _opener(self, batch: MicroBatch, blocks: list[Future[Callable[[int], bytes]]]) -> Callable[[int], LazyImage]:
        samples = batch.samples.tolist()
        return lambda place: self._image(samples[place], blocks[place].result())

    def _image(self, sample: int, content: Callable[[int], bytes]) -> LazyImage:
        return open_encoded(self._names[sample], bytearray(content(self._rows[sample])), self._format)
