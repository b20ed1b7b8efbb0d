"""Data set that is ready to be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from convoy.data.batches.collate import Batch, BatchSpec
from convoy.data.images.bad_images import BadImages
from convoy.data.reading.split_images import SplitImages
from convoy.data.sampling.orders import SharedOrder, Shuffled
from convoy.data.sampling.samplers import EvaluationSampler, Order, TrainingSampler
from convoy.data.targets import Targets

SPLITS = ("train", "val", "test")


class TrainingSplit(Protocol):
    """Training images, augmented as they are read."""

    def batches(
        self, sampler: TrainingSampler, rank: int, first_step: int, end_step: int, spec: BatchSpec
    ) -> Iterator[Batch]:
        """Yield the micro batches of `rank` in the optimizer steps first_step .. end_step - 1."""
        ...


class EvaluationSplit(Protocol):
    """Images of a split, not augmented."""

    def batches(self, sampler: EvaluationSampler, rank: int, spec: BatchSpec) -> Iterator[Batch]:
        """Yield the batches of `rank`."""
        ...


@dataclass(frozen=True)
class OpenedData:
    """Data set that is ready to be read.

    Attributes:
        targets: kind and names of the targets.
        training_targets: targets of all training images; None if they are only known after reading the images.
        train: training split, augmented.
        evaluation: splits by name, not augmented; train is among them.
        images: splits by name, as single images.
        sizes: number of images in train, val and test.
        bad_images: images that can't be decoded.
        notes: facts that a user may not expect, one sentence each.
        order: order of the training images, if the source determines it.
        shared: order of the training images otherwise.
    """

    targets: Targets
    training_targets: Tensor | None
    train: TrainingSplit
    evaluation: dict[str, EvaluationSplit]
    images: Mapping[str, SplitImages]
    sizes: dict[str, int]
    bad_images: BadImages
    notes: tuple[str, ...] = ()
    order: Order | None = None
    shared: SharedOrder = field(default_factory=Shuffled)
