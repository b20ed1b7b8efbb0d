"""Which samples go where: pure functions of the seed, the step and the rank.

Training counts in optimizer steps of the whole run. Step s belongs to epoch s // steps_per_epoch, whose order
is a permutation of its own, and takes the next global batch of that order. How many ranks share the batch
changes nothing about what is in it, and a resumed run needs to know its step only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from convoy.config.faults import Fault, UserError
from convoy.data.randomness import permutation


@dataclass(frozen=True)
class MicroBatch:
    """The samples of one forward pass: `samples`, [B] int64 on the CPU, seen in `epoch`."""

    epoch: int
    samples: Tensor


class Order(Protocol):
    """The order of a set that each rank reads a part of, and not all ranks any sample."""

    def of_rank(self, epoch: int, rank: int, num_samples: int) -> Tensor:
        """What a rank sees in an epoch, where each sees as many: int64 [num_samples] on the CPU, no sample twice."""
        ...


@dataclass(frozen=True)
class TrainingSampler:
    """The order of training samples.

    The last samples of an epoch's order, too few for a global batch, are left out; which they are changes
    from epoch to epoch.

    Attributes:
        num_samples: in the training split.
        seed: of the order.
        micro_batch_size: samples a rank in one forward pass.
        accumulation: forward passes a rank in one optimizer step.
        world_size: data-parallel ranks.
        order: of the samples, where it is not one permutation that the ranks share batch by batch. What is in a global
            batch then depends on the number of ranks.
    """

    num_samples: int
    seed: int
    micro_batch_size: int
    accumulation: int = 1
    world_size: int = 1
    order: Order | None = None

    def __post_init__(self) -> None:
        if self.num_samples < self.global_batch_size:
            per_micro_step = self.micro_batch_size * self.world_size
            largest = self.num_samples // per_micro_step * per_micro_step
            remedy = f"at most {largest} with this micro batch" if largest else f"at most {self.num_samples}"
            raise UserError(
                Fault(
                    "trainer.global_batch_size",
                    f"is more than the {self.num_samples} training images, so no batch would be full",
                    remedy,
                    str(self.global_batch_size),
                )
            )

    @property
    def global_batch_size(self) -> int:
        """Samples between two optimizer steps, over all ranks."""
        return self.micro_batch_size * self.accumulation * self.world_size

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps."""
        return self.num_samples // self.global_batch_size

    def epoch_end(self, step: int) -> int:
        """The first optimizer step after `step` that belongs to another epoch."""
        return (step // self.steps_per_epoch + 1) * self.steps_per_epoch

    def epochs(self, rank: int, first_step: int, end_step: int) -> Iterator[tuple[int, Tensor]]:
        """What `rank` sees in the optimizer steps first_step .. end_step - 1, an epoch at a time.

        Yields:
            The epoch, and the samples of its steps: int64 [micro batches, micro_batch_size] on the CPU.
        """
        steps = self.steps_per_epoch
        for epoch in range(first_step // steps, -(-end_step // steps)):
            share = self._share(epoch, rank)
            begin, end = max(first_step - epoch * steps, 0), min(end_step - epoch * steps, steps)
            yield epoch, share[begin:end].flatten(0, 1)

    def _share(self, epoch: int, rank: int) -> Tensor:
        """[steps, accumulation, micro_batch_size]."""
        steps = self.steps_per_epoch
        if self.order is not None:
            share = self.order.of_rank(epoch, rank, steps * self.accumulation * self.micro_batch_size)
            return share.view(steps, self.accumulation, self.micro_batch_size)
        order = permutation(self.seed, epoch, self.num_samples)[: steps * self.global_batch_size]
        return order.view(steps, self.accumulation, self.world_size, self.micro_batch_size)[:, :, rank]

    def micro_batches(self, rank: int, first_step: int, end_step: int) -> Iterator[MicroBatch]:
        """The same, `accumulation` micro batches a step."""
        for epoch, share in self.epochs(rank, first_step, end_step):
            for samples in share:
                yield MicroBatch(epoch, samples)


@dataclass(frozen=True)
class EvaluationSampler:
    """Each sample once over all ranks, in as many batches on one rank as on another.

    Ranks that wait for each other in a forward pass (DistributedDataParallel broadcasts buffers in it) would
    wait for ever for a batch that another rank doesn't have, and a network may fail on an empty one. So all
    batches are of the same size but for one sample, and a split with fewer samples than ranks is refused, on
    each rank alike.

    Attributes:
        num_samples: in the split.
        batch_size: the most samples of a batch. Only at 1 may a batch hold one more, where else one would be
            empty.
        world_size: data-parallel ranks.
        split: its name, for the message.
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
                    "and each must have one",
                    f"use at most {max(1, self.num_samples)} ranks, or more {self.split} images",
                )
            )

    @property
    def num_batches(self) -> int:
        """Batches of each rank."""
        needed = -(-self.num_samples // (self.batch_size * self.world_size))
        return min(needed, self.num_samples // self.world_size)

    @property
    def largest_batch(self) -> int:
        """Samples of the largest batch of all ranks."""
        return -(-self.num_samples // (self.num_batches * self.world_size))

    def batches(self, rank: int) -> Iterator[MicroBatch]:
        """The batches of `rank`, in the order of the split; epoch is 0."""
        samples = torch.arange(self.num_samples)
        num_parts = self.num_batches * self.world_size
        for part in range(rank, num_parts, self.world_size):
            start, end = (self.num_samples * edge // num_parts for edge in (part, part + 1))
            yield MicroBatch(0, samples[start:end])
