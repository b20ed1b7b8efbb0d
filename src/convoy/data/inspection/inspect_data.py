"""A look at a data set: targets, sizes, pixel values, unreadable files and duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convoy.config.data_schema import DataConfig
from convoy.data.inspection import perceptual_hash
from convoy.data.inspection.duplicates import Duplicates, find_duplicates
from convoy.data.inspection.image_facts import BatchFacts, read_facts
from convoy.data.opening.opened_data import SPLITS, OpenedData
from convoy.data.reading.split_images import SplitImages
from convoy.data.source_names import IMAGE_CHANNELS, IMAGE_SIDES
from convoy.data.targets import Targets


@dataclass
class SplitFacts:
    """Facts about a split.

    Attributes:
        num_images: images of the split.
        targets: targets of all images, or if they are only known after reading them, of those that were decoded.
        samples: indices of the decoded images.
        batches_of_targets: their targets, one tensor per batch.
        bad: decoder message for each unreadable image, by name.
    """

    num_images: int
    targets: Tensor
    samples: list[int] = field(default_factory=list)
    batches_of_targets: list[Tensor] = field(default_factory=list)
    bad: dict[str, str] = field(default_factory=dict)

    @property
    def seen_targets(self) -> Tensor:
        """Targets of the decoded images, as `convoy.data.targets` describes."""
        return torch.cat(self.batches_of_targets) if self.batches_of_targets else torch.empty(0, 1)

    @property
    def num_read(self) -> int:
        """Number of images that were read, with unreadable ones."""
        return len(self.samples) + len(self.bad)


@dataclass
class Inspection:
    """Facts about a data set.

    Attributes:
        targets: kind and names of the targets.
        splits: facts by split.
        sizes: number of decoded images by (width, height).
        modes: number of decoded images by mode, see `LazyImage`.
        histogram: int64 [C, 256], number of pixels of each value in the training set, as val sees them.
        duplicates: indices are those of `images`.
        images: split and index in the split of each decoded image.
        sources: images by split, which have the names.
    """

    targets: Targets
    splits: dict[str, SplitFacts]
    sizes: Counter[tuple[int, int]]
    modes: Counter[str]
    histogram: NDArray[np.int64]
    duplicates: Duplicates
    images: list[tuple[str, int]]
    sources: Mapping[str, SplitImages]

    @property
    def mean_and_std(self) -> tuple[list[float], list[float]] | None:
        """Mean and standard deviation per channel of the training pixels in 0..1, or None without an image."""
        totals = self.histogram.sum(1)
        if not totals.all():
            return None
        values = np.arange(256) / 255
        means = self.histogram @ values / totals
        squares = self.histogram @ values**2 / totals
        return means.tolist(), np.sqrt(np.maximum(squares - means**2, 0)).tolist()

    def name(self, image: int) -> str:
        """Return the name of a decoded image, see `SplitImages`."""
        split, sample = self.images[image]
        return self.sources[split].name(sample)

    def targets_seen(self) -> list[object]:
        """Return the targets of the decoded images."""
        return [target for facts in self.splits.values() for target in facts.seen_targets.tolist()]


class _Looks:
    """Collected facts of all decoded images."""

    def __init__(self, data: DataConfig) -> None:
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.modes: Counter[str] = Counter()
        self.histogram = np.zeros((data.channels, 256), dtype=np.int64)
        self.images: list[tuple[str, int]] = []
        self.digests: list[bytes] = []
        self._hashes = [np.empty(0, dtype=np.uint64)]
        self._details = [np.empty((0, 256), dtype=np.float16)]

    def add(self, split: str, batch: BatchFacts) -> None:
        """Add the images of a batch."""
        if not batch.images:
            return
        self.sizes.update((image.width, image.height) for image in batch.images)
        self.modes.update(image.mode for image in batch.images)
        self.images += [(split, image.sample) for image in batch.images]
        self.digests += [image.digest for image in batch.images]
        if split == "train":
            self.histogram += np.sum([image.histogram for image in batch.images], axis=0)
        thumbnails = np.stack([image.thumbnail for image in batch.images])
        self._hashes.append(perceptual_hash.hashes(thumbnails))
        self._details.append(perceptual_hash.details(thumbnails))

    def duplicates(self) -> Duplicates:
        """Return the duplicates among the images."""
        return find_duplicates(self.digests, np.concatenate(self._hashes), np.concatenate(self._details))


def inspect_data(
    opened: OpenedData,
    data: DataConfig,
    samples: dict[str, Tensor],
    num_threads: int,
    report: Callable[[int], None] = lambda _: None,
) -> Inspection:
    """Decode images of a data set and collect facts.

    Args:
        opened: the data set.
        data: the data config.
        samples: indices of the images to decode by split, see `chosen_samples`.
        num_threads: threads that decode.
        report: function called with the number of images after each batch.
    """
    looks, splits = _Looks(data), {}
    for split, images in opened.images.items():
        facts = splits[split] = _empty(images)
        for batch in read_facts(images, samples[split], data, num_threads, report):
            looks.add(split, batch)
            facts.samples += [image.sample for image in batch.images]
            if batch.images:
                facts.batches_of_targets.append(batch.targets)
            facts.bad |= batch.bad
        if images.targets is None:
            facts.targets = facts.seen_targets
    if data.source in IMAGE_SIDES:  # read into memory and resized or padded before
        looks.sizes = Counter({(IMAGE_SIDES[data.source],) * 2: len(looks.images)})
        looks.modes = Counter({"L" if IMAGE_CHANNELS[data.source] == 1 else "RGB": len(looks.images)})
    return Inspection(
        opened.targets,
        splits,
        looks.sizes,
        looks.modes,
        looks.histogram,
        looks.duplicates(),
        looks.images,
        opened.images,
    )


def _empty(images: SplitImages) -> SplitFacts:
    targets = images.targets
    return SplitFacts(len(images), torch.empty(0) if targets is None else targets)


def chosen_samples(opened: OpenedData, most: int, seed: int) -> dict[str, Tensor]:
    """Return the indices of the images to decode by split, ascending: all, or a random sample of `most` of them.

    Args:
        opened: the data set.
        most: most images over all splits; 0 for all.
        seed: seed of the sample.
    """
    sizes = {name: len(opened.images[name]) for name in SPLITS if name in opened.images}
    total = sum(sizes.values())
    if not most or total <= most:
        return {name: torch.arange(size) for name, size in sizes.items()}
    generator = torch.Generator().manual_seed(seed)
    shares = {name: max(1, size * most // total) for name, size in sizes.items()}
    return {
        name: torch.randperm(size, generator=generator)[: shares[name]].sort().values for name, size in sizes.items()
    }
