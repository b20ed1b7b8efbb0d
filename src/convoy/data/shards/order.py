"""Order of packed samples: read in sequence and shuffled within a buffer, computed from the index alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convoy.data.sampling.randomness import Stream, as_integers, permutation, random_bits

_FRACTIONS = 1 << 8
"""Fractions per position; their product with the largest buffer (`check.MOST_BUFFER`) is less than 2^31."""


class ShardOrder:
    """Order of a split in shards.

    The sequence of an epoch is all shards in a random order, rotated to begin at a random sample, so that each epoch
    drops another part at its end, even with a single shard. Each rank reads one contiguous part of the sequence and
    shuffles it within its buffer.
    """

    def __init__(self, shard_sizes: Sequence[int], seed: int, buffer: int) -> None:
        """Store the sizes of the shards.

        Args:
            shard_sizes: number of samples in each shard.
            seed: seed of the order.
            buffer: size of the shuffle buffer in samples, at least 1; 1 keeps the sequence.
        """
        self._sizes = torch.tensor(shard_sizes, dtype=torch.int64)
        self._seed = seed
        self._buffer = buffer

    def sequence(self, epoch: int) -> Tensor:
        """Return all samples in the order in which they are read, int64 [samples] on the CPU."""
        begins = self._sizes.cumsum(0) - self._sizes
        shards = permutation(self._seed, epoch, len(self._sizes), Stream.SHARD_ORDER)
        sizes = self._sizes[shards]
        shifts = begins[shards] - (sizes.cumsum(0) - sizes)
        samples = torch.arange(int(sizes.sum())) + torch.repeat_interleave(shifts, sizes)
        bits = random_bits(self._seed, epoch, torch.zeros(1, dtype=torch.int64), [Stream.SHARD_START])
        return samples.roll(-int(as_integers(bits, len(samples))))

    def of_rank(self, epoch: int, rank: int, num_samples: int) -> Tensor:
        """See `sampling.Order`."""
        part = self.sequence(epoch)[rank * num_samples : (rank + 1) * num_samples]
        # Each sample is delayed by a uniform random number of positions below the buffer size. As with a buffer of
        # random draws, the next sample is one of `buffer` candidates, but the delay of a sample is bounded.
        bits = random_bits(self._seed, epoch, part, [Stream.SHUFFLE_BUFFER])[0]
        places = torch.arange(len(part)) * _FRACTIONS + as_integers(bits, (self._buffer - 1) * _FRACTIONS + 1)
        return part[torch.argsort(places, stable=True)]
