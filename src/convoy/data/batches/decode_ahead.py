"""Decoding ahead of training: threads fill uint8 batches while the step before is computed.

Threads suffice, since the decoders release the GIL, and they start without delay. Each image has a fixed position in
its batch and random numbers derived from the sample, so results depend neither on the order in which threads finish
nor on their number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convoy.config.faults import Fault, UserError
from convoy.data.augmentation.batch_augmentation import BatchOperations
from convoy.data.batches.collate import BatchSpec
from convoy.data.batches.device_copy import BatchBuffer, CopyStream
from convoy.data.images.bad_images import BadImageError, BadImages
from convoy.data.reading.split_images import OpenBatch
from convoy.data.sampling.samplers import MicroBatch

BATCHES_AHEAD = 3
"""Number of batches that are decoded in advance."""

_IMAGES_PER_TASK = 8

Fill = Callable[[int, NDArray[np.uint8]], None]
"""Function that writes the image at a position in a batch into an array, uint8 [H, W, C]; can raise BadImageError."""


class BatchDraws(NamedTuple):
    """Random parameters of the augmentation of a whole batch; None where the augmentation is off.

    Attributes:
        starts: int64 [B], positions of the windows, for `WindowSource.cut`.
        cutout: int64 [2, B], first row and column of the square.
        operations: operations on the images.
        erasing: int64 [4, B], top, left, height and width of the erased rectangle.
    """

    starts: Tensor | None = None
    cutout: Tensor | None = None
    operations: BatchOperations | None = None
    erasing: Tensor | None = None


DrawPlaces = Callable[[Tensor], BatchDraws]
"""Function that draws the parameters of the samples at positions in a batch, int64 [B]. Called in any thread."""


class BatchWork(NamedTuple):
    """Functions that fill a batch.

    Attributes:
        fill: see `Fill`.
        draw: see `DrawPlaces`.
        targets: function that returns the targets at positions in the batch, int64 [B], which have been filled.
    """

    fill: Fill
    draw: DrawPlaces
    targets: Callable[[Tensor], Any]


Prepare = Callable[[MicroBatch, OpenBatch], BatchWork]
"""Function of (samples of a batch, its reader)."""


class DecodedBatch(NamedTuple):
    """Batch of decoded images, with all of its tensors on the device.

    Attributes:
        images: uint8 [B, C, H, W]; fewer than the micro batch if images were skipped. Valid until the next batch is
            requested.
        targets: targets of the samples.
        draws: random parameters of the samples.
    """

    images: Tensor
    targets: Any
    draws: BatchDraws


DecodedBatches = Generator[DecodedBatch, None, None]


class _Pending:
    """Batch that threads are decoding.

    Args:
        pool: threads.
        count: number of images.
        work: functions that fill the batch.
        buffer: memory of the batch.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        count: int,
        work: BatchWork,
        buffer: BatchBuffer,
    ) -> None:
        buffer.wait()
        self.buffer = buffer
        self._fill, self._draw, self._targets = work
        self._num_images = count
        self._is_sent = False
        starts = range(0, count, _IMAGES_PER_TASK)
        shares = [range(start, min(start + _IMAGES_PER_TASK, count)) for start in starts]
        self._tasks = [pool.submit(self._filled, share) for share in shares]
        self._draws = pool.submit(self._draw, torch.arange(count))

    def _filled(self, places: range) -> dict[int, BadImageError]:
        """Fill the images at `places`; return the errors of those that can't be decoded, by place."""
        bad = {}
        for place in places:
            try:
                self._fill(place, self.buffer.pixels[place])
            except BadImageError as error:
                bad[place] = error
        return bad

    def send_if_complete(self) -> None:
        """Start the copy of the batch if all of its images are decoded."""
        futures: list[Future[Any]] = [*self._tasks, self._draws]
        if all(task.done() and task.exception() is None for task in futures) and not self._bad():
            self._send(torch.arange(self._num_images), self._draws.result())

    def take(self, bad_images: BadImages) -> DecodedBatch:
        """Wait for the batch and return it without the images that can't be decoded."""
        if not self._is_sent:
            bad = self._bad()
            for error in bad.values():
                bad_images.add(error)
            kept = [place for place in range(self._num_images) if place not in bad]
            if not kept:
                raise _none_left(bad_images.key, bad)
            self.buffer.keep(kept)
            places = torch.tensor(kept)
            self._send(places, self._draw(places) if bad else self._draws.result())
        images, (targets, draws) = self.buffer.receive()
        return DecodedBatch(images, targets, draws)

    def _bad(self) -> dict[int, BadImageError]:
        return {place: error for task in self._tasks for place, error in task.result().items()}

    def _send(self, places: Tensor, draws: BatchDraws) -> None:
        self.buffer.send(len(places), (self._targets(places), draws))
        self._is_sent = True


def decode_ahead(
    batches: Iterable[tuple[MicroBatch, OpenBatch]],
    prepare: Prepare,
    shape: tuple[int, int, int, int],
    bad_images: BadImages,
    spec: BatchSpec,
) -> DecodedBatches:
    """Decode batches in order, up to `BATCHES_AHEAD` at a time.

    The first `next()` starts the threads; they end when the iterator is exhausted, fails or is closed.

    Args:
        batches: batches with their readers; closed at the end if it is a generator.
        prepare: see `Prepare`; called in this thread, in order.
        shape: shape of a buffer: largest number of images in a batch, H, W, C.
        bad_images: record of the images that can't be decoded.
        spec: number of threads, and device of the images.

    Yields:
        See `DecodedBatch`.

    Raises:
        UserError: if an image can't be decoded and must not be skipped, or no image of a batch can be decoded.
    """
    pool = ThreadPoolExecutor(spec.num_threads, thread_name_prefix="convoy-decode")
    stream = CopyStream(spec.device) if spec.device.type == "cuda" else None
    free = deque(BatchBuffer(shape, stream) for _ in range(BATCHES_AHEAD + 1))
    pending: deque[_Pending] = deque()
    remaining = iter(batches)
    try:
        while True:
            while len(pending) < BATCHES_AHEAD and (coming := next(remaining, None)) is not None:
                pending.append(_Pending(pool, len(coming[0].samples), prepare(*coming), free.popleft()))
            if not pending:
                return
            batch = (done := pending.popleft()).take(bad_images)
            if stream and pending:
                pending[0].send_if_complete()
            yield batch
            free.append(done.buffer)
    finally:
        if isinstance(remaining, Generator):
            remaining.close()
        pool.shutdown(wait=True, cancel_futures=True)


def _none_left(key: str, bad: dict[int, BadImageError]) -> UserError:
    first = next(iter(bad.values()))
    rule = f"none of the {len(bad)} images of a batch can be decoded, such as {first.path} ({first.reason})"
    return UserError(Fault(key, rule, "replace the damaged files"))
