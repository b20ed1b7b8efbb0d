"""Batches of images that are read while training runs: threads decode into uint8 batches ahead of the step.

Threads suffice, since the decoders release the GIL, and they start without delay. Each image has a fixed position in
its batch and random numbers derived from the sample, so results depend neither on the order in which threads finish
nor on their number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convoy.config.faults import Fault, UserError
from convoy.config.schema import DataConfig
from convoy.data.augment import WindowSource, draw
from convoy.data.collate import Batch, BatchFinalizer, BatchSpec
from convoy.data.crop_geometry import NUM_CROP_NUMBERS, random_box
from convoy.data.decode import BadImageError, LazyImage
from convoy.data.randomness import Stream, as_coin, as_uniform, random_bits
from convoy.data.resize import crop_and_resize, resize_and_center
from convoy.data.sampling import EvaluationSampler, MicroBatch, TrainingSampler
from convoy.data.split_images import OpenBatch, SplitImages
from convoy.data.transforms import ImageTransforms

BATCHES_AHEAD = 3
"""Number of batches that are decoded in advance."""

_IMAGES_PER_TASK = 8

Fill = Callable[[int, NDArray[np.uint8]], None]
"""Function that writes the image at a position in a batch into an array, uint8 [S, S, C]; can raise BadImageError."""

Prepare = Callable[[MicroBatch, OpenBatch], Fill]
"""Function of (samples of a batch, its reader) that returns the function for filling the batch."""


class DecodedBatch(NamedTuple):
    """Batch of decoded images.

    Attributes:
        epoch: epoch of the samples.
        samples: int64 [B], fewer than the micro batch if images were skipped.
        images: uint8 [B, C, S, S] on the device; valid until the next batch is requested.
        targets: targets of the samples.
    """

    epoch: int
    samples: Tensor
    images: Tensor
    targets: Any


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

    def batches(
        self, sampler: TrainingSampler, rank: int, first_step: int, end_step: int, spec: BatchSpec
    ) -> Iterator[Batch]:
        """Yield the micro batches of `rank` in the optimizer steps first_step .. end_step - 1."""
        data, augment = self._data, self._data.augment
        finish = BatchFinalizer(data, spec)
        with closing(self.decoded(sampler, rank, first_step, end_step, spec)) as decoded:
            for epoch, samples, images, targets in decoded:
                draws = draw(augment, data.image_size, self._seed, epoch, samples.to(spec.device))
                if augment.pad_crop or (augment.flip and not self._mirrors_at_once):
                    source = WindowSource.of(images, augment.pad_crop, augment.flip)
                    places = torch.arange(len(images), device=spec.device)
                    images = source.cut(source.starts(places, draws.window, draws.mirrored))
                yield finish(images, targets, draws.cutout)

    def decoded(
        self, sampler: TrainingSampler, rank: int, first_step: int, end_step: int, spec: BatchSpec
    ) -> DecodedBatches:
        """Yield the same batches as uint8, before the augmentation of whole batches."""
        data = self._data
        batches = self._pictures.visit(sampler.micro_batches(rank, first_step, end_step))
        shape = (sampler.micro_batch_size, data.image_size, data.channels)
        return decode_ahead(batches, self._prepare, shape, self._bad_images, spec)

    @property
    def _mirrors_at_once(self) -> bool:
        """Whether images are mirrored while they are written; otherwise the gather of pad_crop mirrors them."""
        return self._data.augment.random_resized_crop is not None

    def _prepare(self, batch: MicroBatch, opened: OpenBatch) -> Fill:
        fill = self._crops(batch, opened)
        if not self._transforms:
            return fill
        seeds = self._transforms.seeds(batch.epoch, batch.samples)

        def fill_and_transform(place: int, out: NDArray[np.uint8]) -> None:
            fill(place, out)
            self._transforms.apply_to_pixels(out, seeds[place])

        return fill_and_transform

    def _crops(self, batch: MicroBatch, opened: OpenBatch) -> Fill:
        data, augment = self._data, self._data.augment
        scale = augment.random_resized_crop
        if scale is None:
            return lambda place, out: _fill_for_evaluation(opened.image(place), data, out)
        streams = range(Stream.RESIZED_CROP, Stream.RESIZED_CROP + NUM_CROP_NUMBERS)
        numbers: list[list[float]] = as_uniform(random_bits(self._seed, batch.epoch, batch.samples, streams)).T.tolist()
        coins = as_coin(random_bits(self._seed, batch.epoch, batch.samples, [Stream.MIRROR])[0]).tolist()

        def fill(place: int, out: NDArray[np.uint8]) -> None:
            picture = opened.image(place)
            box = random_box(picture.width, picture.height, scale, numbers[place])
            crop_and_resize(picture, box, out, mirrored=augment.flip and coins[place])

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
        shape = (sampler.largest_batch, data.image_size, data.channels)

        def prepare(_: MicroBatch, opened: OpenBatch) -> Fill:
            return lambda place, out: _fill_for_evaluation(opened.image(place), data, out)

        return decode_ahead(self._pictures.visit(sampler.batches(rank)), prepare, shape, self._bad_images, spec)


def _fill_for_evaluation(picture: LazyImage, data: DataConfig, out: NDArray[np.uint8]) -> None:
    resize_and_center(picture, data.eval_resize or data.image_size, out)


class _Buffer:
    """Memory of one uint8 batch in NHWC, which is reused; pinned if it is copied to a GPU."""

    def __init__(self, shape: tuple[int, int, int], device: torch.device) -> None:
        batch, size, channels = shape
        self._device = device
        self._images = torch.empty((batch, size, size, channels), dtype=torch.uint8, pin_memory=device.type == "cuda")
        self.pixels: NDArray[np.uint8] = self._images.numpy()
        self._copied: torch.cuda.Event | None = None

    def on_device(self, kept: Sequence[int], batch_size: int) -> Tensor:
        """Return the images at the positions `kept`, uint8 [B, C, S, S] in channels_last on the device.

        On the CPU, the result shares the buffer's memory.
        """
        images = self._images[:batch_size] if len(kept) == batch_size else self._images[list(kept)]
        if self._device.type != "cpu":
            images = images.to(self._device, non_blocking=True)
        if self._device.type == "cuda":
            self._copied = torch.cuda.current_stream(self._device).record_event()
        return images.permute(0, 3, 1, 2)

    def wait(self) -> None:
        """Wait until the buffer may be written to again."""
        if self._copied is not None:
            self._copied.synchronize()
            self._copied = None


@dataclass
class _Pending:
    """Batch that threads are decoding; each of `tasks` returns the errors of its images by position."""

    batch: MicroBatch
    opened: OpenBatch
    buffer: _Buffer
    tasks: list[Future[dict[int, BadImageError]]]


def decode_ahead(
    batches: Iterable[tuple[MicroBatch, OpenBatch]],
    prepare: Prepare,
    shape: tuple[int, int, int],
    bad_images: BadImages,
    spec: BatchSpec,
) -> DecodedBatches:
    """Decode batches in order, up to `BATCHES_AHEAD` at a time.

    The first `next()` starts the threads; they end when the iterator is exhausted, fails or is closed.

    Args:
        batches: batches with their readers; closed at the end if it is a generator.
        prepare: see `Prepare`; called in this thread, in order.
        shape: shape of a buffer: largest number of images in a batch, S, C.
        bad_images: record of the images that can't be decoded.
        spec: number of threads, and device of the images.

    Yields:
        See `DecodedBatch`.

    Raises:
        UserError: if an image can't be decoded and must not be skipped, or no image of a batch can be decoded.
    """
    pool = ThreadPoolExecutor(spec.num_threads, thread_name_prefix="convoy-decode")
    free = deque(_Buffer(shape, spec.device) for _ in range(BATCHES_AHEAD + 1))
    pending: deque[_Pending] = deque()
    remaining = iter(batches)
    try:
        while True:
            while len(pending) < BATCHES_AHEAD and (coming := next(remaining, None)) is not None:
                pending.append(_start(pool, coming, prepare(*coming), free.popleft()))
            if not pending:
                return
            done = pending.popleft()
            bad = {place: error for task in done.tasks for place, error in task.result().items()}
            for error in bad.values():
                bad_images.add(error)
            num_images = len(done.batch.samples)
            kept = [place for place in range(num_images) if place not in bad]
            if not kept:
                raise _none_left(bad_images.key, bad)
            places = torch.tensor(kept)
            targets = done.opened.targets(places)
            images = done.buffer.on_device(kept, num_images)
            yield DecodedBatch(done.batch.epoch, done.batch.samples[places], images, targets)
            free.append(done.buffer)
    finally:
        if isinstance(remaining, Generator):
            remaining.close()
        pool.shutdown(wait=True, cancel_futures=True)


def _start(
    pool: ThreadPoolExecutor,
    coming: tuple[MicroBatch, OpenBatch],
    fill_place: Fill,
    buffer: _Buffer,
) -> _Pending:
    buffer.wait()

    def fill(places: range) -> dict[int, BadImageError]:
        bad = {}
        for place in places:
            try:
                fill_place(place, buffer.pixels[place])
            except BadImageError as error:
                bad[place] = error
        return bad

    num_images = len(coming[0].samples)
    shares = (
        range(start, min(start + _IMAGES_PER_TASK, num_images)) for start in range(0, num_images, _IMAGES_PER_TASK)
    )
    return _Pending(*coming, buffer, [pool.submit(fill, share) for share in shares])


def _none_left(key: str, bad: dict[int, BadImageError]) -> UserError:
    first = next(iter(bad.values()))
    rule = f"none of the {len(bad)} images of a batch can be decoded, such as {first.path} ({first.reason})"
    return UserError(Fault(key, rule, "replace the damaged files"))
