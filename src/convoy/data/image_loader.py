"""Batches of images that are read while training runs: threads decode into uint8 batches ahead of the step.

Threads suffice, since the decoders release the GIL, and they start without delay. Each image has a fixed position in
its batch and random numbers derived from the sample, so results depend neither on the order in which threads finish
nor on their number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convoy.config.faults import Fault, UserError
from convoy.config.image_size import sides_of
from convoy.config.schema import DataConfig
from convoy.data.augmentation.batch_augmentation import BatchAugmentation, BatchOperations, augment_batch
from convoy.data.augmentation.padded_crops import WindowLayout, WindowSource, draw
from convoy.data.collate import Batch, BatchFinalizer, BatchSpec
from convoy.data.crop_geometry import RandomCrop
from convoy.data.decode import BadImageError, LazyImage
from convoy.data.device_copy import BatchBuffer, CopyStream
from convoy.data.randomness import Stream, as_coin, random_bits
from convoy.data.resize import crop_and_resize, resize_and_center
from convoy.data.sampling import EvaluationSampler, MicroBatch, TrainingSampler
from convoy.data.split_images import OpenBatch, SplitImages
from convoy.data.transforms import ImageTransforms

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


Prepare = Callable[[MicroBatch, OpenBatch], tuple[Fill, DrawPlaces]]
"""Function of (samples of a batch, its reader) that returns the functions that fill the batch and draw for it."""


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


@dataclass
class BadImages:
    """Images that can't be decoded.

    Attributes:
        skip: whether they are skipped; otherwise the first one stops the run.
        key: setting that names the images, for the error.
        reasons: message of the decoder for each image found so far, by path.
    """

    skip: bool
    key: str = "data.root"
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, error: BadImageError) -> None:
        """Record an image.

        Raises:
            UserError: if images must not be skipped.
        """
        if not self.skip:
            rule = f"{error.path} can't be decoded ({error.reason})"
            raise UserError(Fault(self.key, rule, "repair or remove it, or set data.on_bad_image=skip")) from error
        self.reasons[error.path] = error.reason


class StreamedTraining:
    """Training images that are decoded on demand and augmented."""

    def __init__(self, pictures: SplitImages, data: DataConfig, seed: int, bad_images: BadImages) -> None:
        self._pictures = pictures
        self._data = data
        self._seed = seed
        self._bad_images = bad_images
        self._transforms = ImageTransforms(data, seed)
        self._crop = RandomCrop(data.augment, data.image_size, seed)
        self._augmentation = BatchAugmentation(data.augment, data.image_size, seed)

    def batches(
        self, sampler: TrainingSampler, rank: int, first_step: int, end_step: int, spec: BatchSpec
    ) -> Iterator[Batch]:
        """Yield the micro batches of `rank` in the optimizer steps first_step .. end_step - 1."""
        augment = self._data.augment
        finish = BatchFinalizer(self._data, spec)
        with closing(self.decoded(sampler, rank, first_step, end_step, spec)) as decoded:
            for images, targets, draws in decoded:
                if draws.starts is not None:
                    images = WindowSource.of(images, augment.pad_crop, augment.flip).cut(draws.starts)
                if draws.operations is not None:
                    images = augment_batch(images, draws.operations)
                yield finish(images, targets, draws.cutout, draws.erasing)

    def decoded(
        self, sampler: TrainingSampler, rank: int, first_step: int, end_step: int, spec: BatchSpec
    ) -> DecodedBatches:
        """Yield the same batches as uint8, before the augmentation of whole batches."""
        data = self._data
        batches = self._pictures.visit(sampler.micro_batches(rank, first_step, end_step))
        shape = (sampler.micro_batch_size, *sides_of(data.image_size), data.channels)
        return decode_ahead(batches, self._prepare, shape, self._bad_images, spec)

    def _prepare(self, batch: MicroBatch, opened: OpenBatch) -> tuple[Fill, DrawPlaces]:
        fill = self._crops(batch, opened)

        def draw_places(places: Tensor) -> BatchDraws:
            return self._draws(batch.epoch, batch.keys[places])

        if not self._transforms:
            return fill, draw_places
        seeds = self._transforms.seeds(batch.epoch, batch.keys)

        def fill_and_transform(place: int, out: NDArray[np.uint8]) -> None:
            fill(place, out)
            self._transforms.apply_to_pixels(out, seeds[place])

        return fill_and_transform, draw_places

    def _draws(self, epoch: int, keys: Tensor) -> BatchDraws:
        """Draw the parameters that the augmentation of whole batches uses."""
        data, augment = self._data, self._data.augment
        others = BatchDraws(
            operations=self._augmentation.draw(epoch, keys), erasing=self._augmentation.draw_erasing(epoch, keys)
        )
        # With a random crop, images are mirrored while they are written.
        cuts = augment.pad_crop or (augment.flip and not self._crop.is_on)
        if not cuts and not augment.cutout:
            return others
        drawn = draw(augment, data.image_size, self._seed, epoch, keys)
        if not cuts:
            return others._replace(cutout=drawn.cutout)
        layout = WindowLayout(data.image_size, data.channels, augment.pad_crop, augment.flip)
        return others._replace(starts=layout.starts(torch.arange(len(keys)), drawn), cutout=drawn.cutout)

    def _crops(self, batch: MicroBatch, opened: OpenBatch) -> Fill:
        data, flip = self._data, self._data.augment.flip
        if not self._crop.is_on:
            return lambda place, out: fill_for_evaluation(opened.image(place), data, out)
        numbers = self._crop.numbers(batch.epoch, batch.keys)
        coins = as_coin(random_bits(self._seed, batch.epoch, batch.keys, [Stream.MIRROR])[0]).tolist()

        def fill(place: int, out: NDArray[np.uint8]) -> None:
            picture = opened.image(place)
            box = self._crop.box(picture.width, picture.height, numbers[place])
            crop_and_resize(picture, box, out, mirrored=flip and coins[place])

        return fill


class StreamedEvaluation:
    """Images of a split, decoded on demand and not augmented."""

    def __init__(self, pictures: SplitImages, data: DataConfig, bad_images: BadImages) -> None:
        self._pictures = pictures
        self._data = data
        self._bad_images = bad_images

    def batches(self, sampler: EvaluationSampler, rank: int, spec: BatchSpec) -> Iterator[Batch]:
        """Yield the batches of `rank`."""
        finish = BatchFinalizer(self._data, spec)
        with closing(self.decoded(sampler, rank, spec)) as decoded:
            for batch in decoded:
                yield finish(batch.images, batch.targets)

    def decoded(self, sampler: EvaluationSampler, rank: int, spec: BatchSpec) -> DecodedBatches:
        """Yield the same batches as uint8."""
        data = self._data
        shape = (sampler.largest_batch, *sides_of(data.image_size), data.channels)

        def prepare(_: MicroBatch, opened: OpenBatch) -> tuple[Fill, DrawPlaces]:
            return lambda place, out: fill_for_evaluation(opened.image(place), data, out), lambda _: BatchDraws()

        return decode_ahead(self._pictures.visit(sampler.batches(rank)), prepare, shape, self._bad_images, spec)


def fill_for_evaluation(picture: LazyImage, data: DataConfig, out: NDArray[np.uint8]) -> None:
    """Write an image as val shows it into `out`, uint8 [H, W, C].

    Raises:
        BadImageError: if the image can't be decoded.
    """
    resize_and_center(picture, data.eval_resize or sides_of(data.image_size).shorter, out)


class _Pending:
    """Batch that threads are decoding.

    Args:
        pool: threads.
        coming: samples of the batch, and their reader.
        work: functions that fill the batch and draw for it.
        buffer: memory of the batch.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        coming: tuple[MicroBatch, OpenBatch],
        work: tuple[Fill, DrawPlaces],
        buffer: BatchBuffer,
    ) -> None:
        buffer.wait()
        self.buffer = buffer
        batch, self._opened = coming
        self._fill, self._draw = work
        self._num_images = count = len(batch.samples)
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
        self.buffer.send(len(places), (self._opened.targets(places), draws))
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
                pending.append(_Pending(pool, coming, prepare(*coming), free.popleft()))
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
