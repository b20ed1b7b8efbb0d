"""Tests of the order of packed samples: each once, in sequence but for the buffer, resumable at any step."""

from __future__ import annotations

import pytest
import torch

from convoy.data.sampling.samplers import TrainingSampler
from convoy.data.shards.order import ShardOrder

SIZES = (17, 5, 29, 1, 23, 26)


def of_epoch(plan: TrainingSampler, rank: int, epoch: int) -> list[int]:
    steps = plan.steps_per_epoch
    batches = plan.micro_batches(rank, epoch * steps, (epoch + 1) * steps)
    return torch.cat([batch.samples for batch in batches]).tolist()


@pytest.mark.parametrize(
    ("world_size", "micro", "accumulation"),
    [(1, 1, 1), (1, 7, 2), (2, 3, 1), (3, 5, 1), (4, 4, 2), (5, 7, 1), (8, 3, 2)],
)
def test_ranks_see_each_sample_once_and_equally_many(world_size: int, micro: int, accumulation: int) -> None:
    plan = TrainingSampler(101, 3, micro, accumulation, world_size, ShardOrder(SIZES, 3, 12))
    seen_by_epoch = []
    for epoch in range(30):
        ranks = [of_epoch(plan, rank, epoch) for rank in range(world_size)]
        assert {len(samples) for samples in ranks} == {101 // plan.global_batch_size * micro * accumulation}
        seen = [sample for samples in ranks for sample in samples]
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(101))
        # What is left out is less than a global batch, and none where the batches come out even.
        assert 101 - len(seen) == 101 % plan.global_batch_size
        seen_by_epoch.append(set(seen))
    # No sample is always the one that is left out.
    assert set.union(*seen_by_epoch) == set(range(101))


@pytest.mark.parametrize("buffer", [1, 12, 4000])
def test_shards_are_read_in_sequence_and_samples_moved_within_the_buffer(buffer: int) -> None:
    order = ShardOrder(SIZES, 3, buffer)
    edges = [0, *torch.tensor(SIZES).cumsum(0).tolist()]
    for epoch in range(5):
        sequence = order.sequence(epoch).tolist()
        assert sorted(sequence) == list(range(101))
        # A break between two samples is always one between shards, and the first shard is the only one cut in two.
        breaks = [at for at in range(1, 101) if sequence[at] != sequence[at - 1] + 1]
        assert all(sequence[at] in edges for at in breaks)
        assert len(breaks) <= len(SIZES)
        for rank in range(2):
            run = sequence[50 * rank : 50 * rank + 50]
            shuffled = order.of_rank(epoch, rank, 50).tolist()
            assert sorted(shuffled) == sorted(run)
            places = [run.index(sample) for sample in shuffled]
            # Before a sample comes, all that are a buffer before it have come.
            furthest = 0
            for place in places:
                assert place > furthest - buffer
                furthest = max(furthest, place)
            assert (places == sorted(places)) == (buffer == 1)


def test_a_large_buffer_is_a_shuffle() -> None:
    """Check mean and spread of the delays, which must be uniform."""
    order = ShardOrder((2000,), 1, 1_000_000)
    sequence = order.sequence(0)
    where = torch.empty(2000)
    where[order.of_rank(0, 0, 2000)] = torch.arange(2000.0)
    correlation = torch.corrcoef(torch.stack([where[sequence], torch.arange(2000.0)]))[0, 1]
    assert abs(float(correlation)) < 0.1


def test_epochs_and_seeds_differ_and_nothing_else_does() -> None:
    order = ShardOrder(SIZES, 3, 12)
    assert order.sequence(0).tolist() == ShardOrder(SIZES, 3, 99).sequence(0).tolist()
    assert order.sequence(0).tolist() != order.sequence(1).tolist()
    assert order.sequence(0).tolist() != ShardOrder(SIZES, 4, 12).sequence(0).tolist()


@pytest.mark.parametrize("first", [1, 7, 12, 13, 20])
def test_from_any_step_on_it_is_the_rest(first: int) -> None:
    plan = TrainingSampler(101, 3, 4, 2, 1, ShardOrder(SIZES, 3, 12))
    whole, rest = list(plan.micro_batches(0, 0, 30)), list(plan.micro_batches(0, first, 30))
    assert [(batch.epoch, batch.samples.tolist()) for batch in rest] == [
        (batch.epoch, batch.samples.tolist()) for batch in whole[2 * first :]
    ]


def test_half_the_micro_batch_twice_is_the_same_order() -> None:
    """Check that a run that ran out of GPU memory resumes with the same samples on each rank."""
    for rank in range(2):
        one = TrainingSampler(101, 3, 8, 1, 2, ShardOrder(SIZES, 3, 12))
        two = TrainingSampler(101, 3, 4, 2, 2, ShardOrder(SIZES, 3, 12))
        assert of_epoch(one, rank, 1) == of_epoch(two, rank, 1)
