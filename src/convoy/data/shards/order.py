"""In which order packed samples are seen: read in sequence, shuffled within a buffer, computed from the index alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convoy.data.randomness import Stream, as_integers, permutation, random_bits

_FRACTIONS = 1 << 8
"""Of a place; times the largest buffer (`check.MOST_BUFFER`) they are fewer than 2^31."""


class ShardOrder:
    """The order of a split in shards.

    An epoch's sequence is the shards one after the other, in an order of its own, from a random sample on: what the
    last incomplete batch leaves out is another part each time, also of a single shard. Each rank reads one run of the
    sequence and shuffles it within its buffer.
    """

    def __init__(self, shard_sizes: Sequence[int], seed: int, buffer: int) -> None:
        """
        Args:
            shard_sizes: samples of each shard.
            seed: of the order.
            buffer: in samples, at least 1, which reads the sequence as it is.
        """
        self._sizes = torch.tensor(shard_sizes, dtype=torch.int64)
        self._seed = seed
        self._buffer = buffer

    def sequence(self, epoch: int) -> Tensor:
        """All samples as they are read: int64 [samples] on the CPU."""
        begins = self._sizes.cumsum(0) - self._sizes
        shards = permutation(self._seed, epoch, len(self._sizes), Stream.SHARD_ORDER)
        sizes = self._sizes[shards]
        shifts = begins[shards] - (sizes.cumsum(0) - sizes)
        samples = torch.arange(int(sizes.sum())) + torch.repeat_interleave(shifts, sizes)
        bits = random_bits(self._seed, epoch, torch.zeros(1, dtype=torch.int64), [Stream.SHARD_START])
        return samples.roll(-int(as_integers(bits, len(samples))))

    def of_rank(self, epoch: int, rank: int, num_samples: int) -> Tensor:
        """See `plan.Order`."""
        run = self.sequence(epoch)[rank * num_samples : (rank + 1) * num_samples]
        # Each sample is put off by less than the buffer, evenly: at any time those that may come next are as many as
        # the buffer, as in a buffer that is drawn from, but no sample can be left in it for long.
        bits = random_bits(self._seed, epoch, run, [Stream.SHUFFLE_BUFFER])[0]
        places = torch.arange(len(run)) * _FRACTIONS + as_integers(bits, (self._buffer - 1) * _FRACTIONS + 1)
        return run[torch.argsort(places, stable=True)]
