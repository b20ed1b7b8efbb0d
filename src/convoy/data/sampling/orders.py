"""Orders of an epoch that all ranks share: each image once, some more often than others, or each several times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.data.checks.class_balance import NO_SAMPLER
from convoy.data.sampling.randomness import Stream, permutation, random_bits
from convoy.data.sampling.splits import SPLIT_SEED


class Places(NamedTuple):
    """Samples in order.

    Attributes:
        samples: int64 [n], indices of the samples; some may occur several times.
        keys: int64 [n], numbers from which the random parameters of a sample's augmentation follow; all different
            within an epoch.
    """

    samples: Tensor
    keys: Tensor


class SharedOrder(Protocol):
    """Order of the training samples of an epoch."""

    def of_epoch(self, seed: int, epoch: int, num_samples: int, count: int) -> Places:
        """Return the first `count` places of an epoch, on the CPU; `count` is at most `num_samples`."""
        ...


@dataclass(frozen=True)
class Shuffled:
    """Random order in which each sample occurs once."""

    def of_epoch(self, seed: int, epoch: int, num_samples: int, count: int) -> Places:
        """See `SharedOrder`."""
        samples = permutation(seed, epoch, num_samples)[:count]
        return Places(samples, samples)


@dataclass(frozen=True)
class Repeated:
    """Random order in which each sample occurs several times in a row, with different augmentation.

    An epoch has a part of the samples only, so that its length stays the same (Hoffer et al. 2019: "Augment
    your batch", arXiv 1901.09335).

    Attributes:
        times: number of copies of a sample.
    """

    times: int

    def of_epoch(self, seed: int, epoch: int, num_samples: int, count: int) -> Places:
        """See `SharedOrder`."""
        samples = permutation(seed, epoch, num_samples)[: -(-count // self.times)]
        return Places(samples.repeat_interleave(self.times)[:count], torch.arange(count))


@dataclass(frozen=True)
class Weighted:
    """Samples drawn with replacement.

    Attributes:
        weights: float64 [num_samples], relative probabilities.
    """

    weights: Tensor

    def of_epoch(self, seed: int, epoch: int, num_samples: int, count: int) -> Places:
        """See `SharedOrder`."""
        places = torch.arange(count)
        bits = random_bits(seed, epoch, places, [Stream.WEIGHTED_ORDER])[0]
        uniform = (bits >> 11 & (1 << 53) - 1).to(torch.float64) * 2.0**-53
        bounds = self.weights.cumsum(0)
        samples = torch.searchsorted(bounds, uniform * bounds[-1], right=True)
        return Places(samples.clamp_max(num_samples - 1), places)


def class_weights(labels: Tensor, sampler: str) -> Tensor:
    """Return a weight per sample, float64 [n], for samples of classes of different size.

    Args:
        labels: [n] int64.
        sampler: `balanced` draws all classes equally often; `sqrt` draws a class in proportion to the square root of
            its size (Mahajan et al. 2018, arXiv 1805.00932, section 2.2).
    """
    counts = torch.bincount(labels).to(torch.float64)
    power = 1.0 if sampler == "balanced" else 0.5
    return counts[labels] ** -power


def most_of_each_class(labels: Tensor, most: int) -> Tensor:
    """Return the indices of at most `most` random samples of each class, ascending; the same in every run."""
    shuffled = permutation(SPLIT_SEED, 0, len(labels), Stream.PER_CLASS)
    grouped = shuffled[torch.argsort(labels[shuffled], stable=True)]
    sizes = torch.bincount(labels)
    rank_in_class = torch.arange(len(labels)) - (sizes.cumsum(0) - sizes)[labels[grouped]]
    return grouped[rank_in_class < most].sort().values


def kept_places(data: DataConfig, labels: Tensor) -> Tensor:
    """Return the indices of the training images that `data.max_per_class` keeps."""
    if data.max_per_class is None:
        return torch.arange(len(labels))
    return most_of_each_class(labels, data.max_per_class)


def shared_order(data: DataConfig, labels: Tensor | None) -> SharedOrder:
    """Return the order of the training images with the classes `labels`, if they are known."""
    if data.repeats > 1:
        return Repeated(data.repeats)
    if data.sampler == NO_SAMPLER:
        return Shuffled()
    if labels is None:
        raise unknown_classes("data.sampler", data.sampler)
    return Weighted(class_weights(labels.cpu(), data.sampler))


def unknown_classes(key: str, value: object) -> UserError:
    """Return the error of a setting that needs classes which are only known after reading the images."""
    rule = "needs the class of each training image, and the data set has no attribute `targets`"
    return UserError(Fault(key, rule, "add a list of class indices named `targets` to it", str(value)))
