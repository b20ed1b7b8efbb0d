"""Assignment of samples to steps, micro batches and ranks, as pure functions of the seed, the step and the rank.

Training counts optimizer steps of the whole run. Step s belongs to epoch s // steps_per_epoch, which has a separate
permutation of the samples, and takes the next global batch of that permutation. The content of a global batch does not
depend on the number of ranks, and a resumed run needs only its step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from convoy.config.faults import Fault, UserError
from convoy.data.sampling.orders import Places, SharedOrder, Shuffled


@dataclass(frozen=True)
class MicroBatch:
    """Samples of one forward pass.

    Attributes:
        epoch: epoch, counted from 0.
        samples: [B] int64 on the CPU.
        keys: [B] int64, see `Places`.
    """

    epoch: int
    samples: Tensor
    keys: Tensor


def micro_batches_of(samples: Tensor, size: int) -> Iterator[MicroBatch]:
    """Yield given samples in micro batches of `size`, the last of which may be smaller."""
    return (MicroBatch(0, part, part) for part in torch.split(samples, size) if len(part))


class Order(Protocol):
    """Order of a data set in which each rank reads a separate part of the samples."""

    def of_rank(self, epoch: int, rank: int, num_samples: int) -> Tensor:
        """Return the samples of a rank in an epoch, int64 [num_samples] on the CPU; no two ranks share a sample."""
        ...


@dataclass(frozen=True)
class TrainingSampler:
    """Order of the training samples.

    The last samples of an epoch's order, too few for a global batch, are dropped; each epoch drops other samples.

    Attributes:
        num_samples: samples of the training split.
        seed: seed of the order.
        micro_batch_size: samples per rank in one forward pass.
        accumulation: forward passes per rank in one optimizer step.
        world_size: number of data-parallel ranks.
        order: order of the samples; None for one that all ranks share. With an order, the content of a global batch
            depends on the number of ranks.
        shared: order that all ranks share.
    """

    num_samples: int
    seed: int
    micro_batch_size: int
    accumulation: int = 1
    world_size: int = 1
    order: Order | None = None
    shared: SharedOrder = field(default_factory=Shuffled)

    def __post_init__(self) -> None:
        if self.num_samples < self.global_batch_size:
            per_micro_step = self.micro_batch_size * self.world_size
            largest = self.num_samples // per_micro_step * per_micro_step
            remedy = f"at most {largest} with this micro batch" if largest else f"at most {self.num_samples}"
            raise UserError(
                Fault(
                    "trainer.global_batch_size",
                    f"is more than the {self.num_samples} training images",
                    remedy,
                    str(self.global_batch_size),
                )
            )

    @property
    def global_batch_size(self) -> int:
        """Samples per optimizer step, over all ranks."""
        return self.micro_batch_size * self.accumulation * self.world_size

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps per epoch."""
        return self.num_samples // self.global_batch_size

    def epoch_end(self, step: int) -> int:
        """Return the first optimizer step after `step` that belongs to another epoch."""
        return (step // self.steps_per_epoch + 1) * self.steps_per_epoch

    def epochs(self, rank: int, first_step: int, end_step: int) -> Iterator[tuple[int, Places]]:
        """Yield the samples of `rank` in the optimizer steps first_step .. end_step - 1, epoch by epoch.

        Yields:
            The epoch, and the places of its steps, each int64 [micro batches, micro_batch_size] on the CPU.
        """
        steps = self.steps_per_epoch
        for epoch in range(first_step // steps, -(-end_step // steps)):
            share = self._share(epoch, rank)
            begin, end = max(first_step - epoch * steps, 0), min(end_step - epoch * steps, steps)
            yield epoch, Places(*(part[begin:end].flatten(0, 1) for part in share))

    def _share(self, epoch: int, rank: int) -> Places:
        """Return the places of a rank in an epoch, each int64 [steps, accumulation, micro_batch_size]."""
        steps = self.steps_per_epoch
        if self.order is not None:
            share = self.order.of_rank(epoch, rank, steps * self.accumulation * self.micro_batch_size)
            share = share.view(steps, self.accumulation, self.micro_batch_size)
            return Places(share, share)
        places = self.shared.of_epoch(self.seed, epoch, self.num_samples, steps * self.global_batch_size)
        shape = steps, self.accumulation, self.world_size, self.micro_batch_size
        return Places(*(part.view(shape)[:, :, rank] for part in places))

    def micro_batches(self, rank: int, first_step: int, end_step: int) -> Iterator[MicroBatch]:
        """Yield the same samples as micro batches, `accumulation` of them per step."""
        for epoch, share in self.epochs(rank, first_step, end_step):
            for samples, keys in zip(*share, strict=True):
                yield MicroBatch(epoch, samples, keys)


@dataclass(frozen=True)
class EvaluationSampler:
    """Order of the samples of a split: each sample once over all ranks, with the same number of batches on each rank.

    DistributedDataParallel broadcasts buffers in the forward pass, so a rank would wait forever for a batch that
    another rank does not have, and a network may fail on an empty batch. All batches therefore have the same size, give
    or take one sample, and a split with fewer samples than ranks is refused on every rank.

    Attributes:
        num_samples: samples of the split.
        batch_size: largest number of samples in a batch. With 1, a batch may have two, so that none is empty.
        world_size: number of data-parallel ranks.
        split: name of the split, for the error.
    """

    num_samples: int
    batch_size: int
    world_size: int = 1
    split: str = "val"

    def __post_init__(self) -> None:
        if self.num_samples < self.world_size:
            raise UserError(
                Fault(
                    "trainer.gpus",
                    f"the {self.split} split has {self.num_samples} images for {self.world_size} ranks, "
                    "and each rank needs one",
                    f"use at most {max(1, self.num_samples)} ranks, or more {self.split} images",
                )
            )

    @property
    def num_batches(self) -> int:
        """Batches per rank."""
        needed = -(-self.num_samples // (self.batch_size * self.world_size))
        return min(needed, self.num_samples // self.world_size)

    @property
    def largest_batch(self) -> int:
        """Samples of the largest batch of all ranks."""
        return -(-self.num_samples // (self.num_batches * self.world_size))

    def batches(self, rank: int) -> Iterator[MicroBatch]:
        """Yield the batches of `rank` in the order of the split, with epoch 0."""
        samples = torch.arange(self.num_samples)
        num_parts = self.num_batches * self.world_size
        for part in range(rank, num_parts, self.world_size):
            start, end = (self.num_samples * edge // num_parts for edge in (part, part + 1))
            yield MicroBatch(0, samples[start:end], samples[start:end])
