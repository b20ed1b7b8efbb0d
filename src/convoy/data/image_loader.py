"""Images of folders and shards: threads decode into uint8 batches ahead of the step that needs them.

Threads, since the decoders let go of Python's lock while they work, and they start at once. Each image has a
place of its own in its batch and random numbers of its own, so nothing depends on which thread is done first
or how many there are.
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
"""Batches that are being decoded while one is in use."""

_IMAGES_A_TASK = 8

Fill = Callable[[int, NDArray[np.uint8]], None]
"""Writes the image of a place in a batch into that place, [S, S, C]. May raise BadImageError."""

Prepare = Callable[[MicroBatch, OpenBatch], Fill]
"""Returns the function that fills a batch from its reader."""


class DecodedBatch(NamedTuple):
    """A batch of decoded images.

    Attributes:
        epoch: epoch in which the samples are seen.
        samples: int64 [B], fewer than the micro batch where some images were skipped.
        images: uint8 [B, C, S, S] on the device; valid until the next batch is asked for.
        targets: targets of the samples.
    """

    epoch: int
    samples: Tensor
    images: Tensor
    targets: Any


DecodedBatches = Generator[DecodedBatch, None, None]


@dataclass
class BadImages:
    """What to do with images that can't be decoded, and those found so far.

    Attributes:
        skip: leave them out; else the first one stops the run.
        key: of the setting that names the images, for the error.
        reasons: what the decoder said, by path.
    """

    skip: bool
    key: str = "data.root"
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, error: BadImageError) -> None:
        """Notes the image.

        Raises:
            UserError: if images are not to be skipped.
        """
        if not self.skip:
            rule = f"{error.path} can't be decoded ({error.reason})"
            raise UserError(Fault(self.key, rule, "repair or remove it, or set data.on_bad_image=skip")) from error
        self.reasons[error.path] = error.reason


class StreamedTraining:
    """Training images that are decoded as they are needed."""

    def __init__(self, pictures: SplitImages, data: DataConfig, seed: int, bad_images: BadImages) -> None:
        self._pictures = pictures
        self._data = data
        self._seed = seed
        self._bad_images = bad_images
        self._transforms = ImageTransforms(data, seed)

    def batches(
        self, sampler: TrainingSampler, rank: int, first_step: int, end_step: int, spec: BatchSpec
    ) -> Iterator[Batch]:
        """The micro batches of `rank` in the optimizer steps first_step .. end_step - 1."""
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
        """The same batches as uint8, before what is done to whole batches."""
        data = self._data
        batches = self._pictures.visit(sampler.micro_batches(rank, first_step, end_step))
        shape = (sampler.micro_batch_size, data.image_size, data.channels)
        return decode_ahead(batches, self._prepare, shape, self._bad_images, spec)

    @property
    def _mirrors_at_once(self) -> bool:
        """Whether images are mirrored as they are written, a fortieth of the work; pad_crop's gather does it too."""
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
    """The images of a split as they are, decoded as they are needed."""

    def __init__(self, pictures: SplitImages, data: DataConfig, bad_images: BadImages) -> None:
        self._pictures = pictures
        self._data = data
        self._bad_images = bad_images

    def batches(self, sampler: EvaluationSampler, rank: int, spec: BatchSpec) -> Iterator[Batch]:
        """The batches of `rank`."""
        finish = BatchFinalizer(self._data, spec)
        with closing(self.decoded(sampler, rank, spec)) as decoded:
            for batch in decoded:
                yield finish(batch.images, batch.targets)

    def decoded(self, sampler: EvaluationSampler, rank: int, spec: BatchSpec) -> DecodedBatches:
        """The same batches as uint8."""
        data = self._data
        shape = (sampler.largest_batch, data.image_size, data.channels)

        def prepare(_: MicroBatch, opened: OpenBatch) -> Fill:
            return lambda place, out: _fill_for_evaluation(opened.image(place), data, out)

        return decode_ahead(self._pictures.visit(sampler.batches(rank)), prepare, shape, self._bad_images, spec)


def _fill_for_evaluation(picture: LazyImage, data: DataConfig, out: NDArray[np.uint8]) -> None:
    resize_and_center(picture, data.eval_resize or data.image_size, out)


class _Buffer:
    """Memory for one uint8 batch in NHWC, used again and again; pinned where it is copied to a GPU."""

    def __init__(self, shape: tuple[int, int, int], device: torch.device) -> None:
        batch, size, channels = shape
        self._device = device
        self._images = torch.empty((batch, size, size, channels), dtype=torch.uint8, pin_memory=device.type == "cuda")
        self.pixels: NDArray[np.uint8] = self._images.numpy()
        self._copied: torch.cuda.Event | None = None

    def on_device(self, kept: Sequence[int], batch_size: int) -> Tensor:
        """uint8 [len(kept), C, S, S] on the device, in channels_last. On the CPU it is this memory itself."""
        images = self._images[:batch_size] if len(kept) == batch_size else self._images[list(kept)]
        if self._device.type != "cpu":
            images = images.to(self._device, non_blocking=True)
        if self._device.type == "cuda":
            self._copied = torch.cuda.current_stream(self._device).record_event()
        return images.permute(0, 3, 1, 2)

    def wait(self) -> None:
        """Until it may be written to again."""
        if self._copied is not None:
            self._copied.synchronize()
            self._copied = None


@dataclass
class _Pending:
    """A batch that threads are at work on; each of `tasks` gives the images of its share that were bad."""

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
    """Decodes batches in order, `BATCHES_AHEAD` of them at a time.

    The threads are started by the first `next()`, and are gone when the iterator is exhausted, fails or is
    dropped.

    Args:
        batches: what to decode, and what opens it; closed at the end where it is a generator.
        prepare: see `Prepare`; called in this thread, in order.
        shape: of a buffer: the most images of a batch, S, C.
        bad_images: takes note of those that can't be decoded.
        spec: how many threads decode, and where the images go.

    Yields:
        See `DecodedBatches`.

    Raises:
        UserError: for an image that can't be decoded and isn't to be skipped, or a batch without one that
            can.
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
    shares = (range(start, min(start + _IMAGES_A_TASK, num_images)) for start in range(0, num_images, _IMAGES_A_TASK))
    return _Pending(*coming, buffer, [pool.submit(fill, share) for share in shares])


def _none_left(key: str, bad: dict[int, BadImageError]) -> UserError:
    first = next(iter(bad.values()))
    rule = f"none of the {len(bad)} images of a batch can be decoded, such as {first.path} ({first.reason})"
    return UserError(Fault(key, rule, "replace the damaged files"))
