"""Decoding of the images of a split in threads, and the facts about each image that a look at the data needs."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convoy.config.data_schema import DataConfig
from convoy.config.image_size import sides_of
from convoy.data.batches.image_loader import fill_for_evaluation
from convoy.data.images.bad_images import BadImageError
from convoy.data.images.decode import LazyImage
from convoy.data.images.resize import Pixels
from convoy.data.inspection import perceptual_hash
from convoy.data.reading.split_images import OpenBatch, SplitImages
from convoy.data.sampling.samplers import MicroBatch, micro_batches_of

_BATCH = 64
_BATCHES_AHEAD = 3


@dataclass(frozen=True)
class ImageFacts:
    """Facts about one image.

    Attributes:
        sample: index in the split.
        width: width in pixels, upright.
        height: height in pixels, upright.
        mode: see `LazyImage`.
        digest: hash of size and decoded pixels. Copies of a file, also with other metadata, have the same digest.
        thumbnail: uint8 [SIDE, SIDE], gray.
        histogram: int64 [C, 256], number of pixels of each value, as the network sees them before normalization.
    """

    sample: int
    width: int
    height: int
    mode: str
    digest: bytes
    thumbnail: NDArray[np.uint8]
    histogram: NDArray[np.int64]


@dataclass(frozen=True)
class BatchFacts:
    """Facts about some images of a split.

    Attributes:
        images: images that could be decoded.
        targets: their targets, as `convoy.data.targets` describes; for targets with positions, 1 for each class, point
            or channel that an image has, else 0.
        bad: decoder message for each other image, by name.
    """

    images: tuple[ImageFacts, ...]
    targets: Tensor
    bad: dict[str, str]


def prepared(picture: LazyImage, data: DataConfig) -> Pixels:
    """Return an image as val sees it, before normalization, uint8 [H, W, C].

    Raises:
        BadImageError: if it can't be decoded.
    """
    out = np.empty((*sides_of(data.image_size), data.channels), dtype=np.uint8)
    fill_for_evaluation(picture, data, out)
    return out


def read_facts(
    images: SplitImages, samples: Tensor, data: DataConfig, num_threads: int, report: Callable[[int], None]
) -> Iterator[BatchFacts]:
    """Decode images completely and yield their facts, in order.

    Args:
        images: images of the split.
        samples: indices of the images to decode, int64.
        data: the data config.
        num_threads: threads that decode.
        report: function called with the number of images after each batch.
    """
    waiting: deque[tuple[MicroBatch, OpenBatch, list[Future[ImageFacts]]]] = deque()
    with ThreadPoolExecutor(num_threads, thread_name_prefix="convoy-decode") as pool:

        def finished() -> BatchFacts:
            batch, opened, tasks = waiting.popleft()
            facts = _gathered(images, batch, opened, tasks)
            report(len(batch.samples))
            return facts

        try:
            for batch, opened in images.visit(micro_batches_of(samples, _BATCH)):
                places = enumerate(batch.samples.tolist())
                tasks = [pool.submit(_facts, opened, place, sample, data) for place, sample in places]
                waiting.append((batch, opened, tasks))
                if len(waiting) > _BATCHES_AHEAD:
                    yield finished()
            while waiting:
                yield finished()
        finally:
            pool.shutdown(cancel_futures=True)


def _gathered(images: SplitImages, batch: MicroBatch, opened: OpenBatch, tasks: list[Future[ImageFacts]]) -> BatchFacts:
    good, bad, places = [], {}, []
    for place, task in enumerate(tasks):
        try:
            good.append(task.result())
            places.append(place)
        except BadImageError as error:
            bad[images.name(int(batch.samples[place]))] = error.reason
    if not places:
        targets = torch.empty(0)
    elif images.located is not None:
        present = images.located.present
        targets = torch.tensor([present(int(batch.samples[place]), opened.image(place)) for place in places])
    else:
        targets = opened.targets(torch.tensor(places))
    return BatchFacts(tuple(good), targets, bad)


def _facts(opened: OpenBatch, place: int, sample: int, data: DataConfig) -> ImageFacts:
    picture = opened.image(place)
    pixels = picture.pixels(picture.height, 1)
    # The decoder reduces large JPEGs for the network; otherwise the pixels need not be decoded again.
    once = replace(picture, pixels=lambda bottom, factor: pixels if factor == 1 else picture.pixels(bottom, factor))
    seen = prepared(once, data)
    digest = hashlib.blake2b(f"{pixels.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    histogram = np.stack([np.bincount(seen[:, :, channel].ravel(), minlength=256) for channel in range(data.channels)])
    return ImageFacts(
        sample,
        picture.width,
        picture.height,
        picture.mode,
        digest.digest(),
        perceptual_hash.thumbnail(pixels),
        histogram,
    )
