"""Tests of the order of samples against its definition by sets and counts."""

from __future__ import annotations

import pytest
import torch

from convoy.config.faults import UserError
from convoy.data.sampling.randomness import permutation
from convoy.data.sampling.samplers import EvaluationSampler, TrainingSampler


def samples_of_step(plan: TrainingSampler, step: int) -> list[int]:
    """Return the samples of all ranks in ascending order."""
    batches = [batch for rank in range(plan.world_size) for batch in plan.micro_batches(rank, step, step + 1)]
    return sorted(torch.cat([batch.samples for batch in batches]).tolist())


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_global_batch_is_the_same_for_any_world_size(world_size: int, accumulation: int) -> None:
    global_batch = 24
    plan = TrainingSampler(101, 7, global_batch // world_size // accumulation, accumulation, world_size)
    for step in (0, 3, 4, 9):
        epoch, offset = divmod(step, 101 // global_batch)
        expected = permutation(7, epoch, 101)[offset * global_batch : (offset + 1) * global_batch]
        assert samples_of_step(plan, step) == sorted(expected.tolist())


def test_an_epoch_has_each_sample_at_most_once_and_drops_others_the_next_time() -> None:
    plan = TrainingSampler(num_samples=103, seed=1, micro_batch_size=10)
    seen = []
    for epoch in range(2):
        batches = list(plan.micro_batches(0, epoch * 10, epoch * 10 + 10))
        assert {batch.epoch for batch in batches} == {epoch}
        seen.append(torch.cat([batch.samples for batch in batches]).tolist())
        assert len(seen[epoch]) == len(set(seen[epoch])) == 100
    assert seen[0] != seen[1]
    assert set(seen[0]) != set(seen[1])


def test_steps_over_several_epochs_are_those_of_each_epoch() -> None:
    plan = TrainingSampler(num_samples=50, seed=3, micro_batch_size=4, accumulation=3)
    whole = list(plan.micro_batches(0, 0, 12))
    assert len(whole) == 36
    parts = [batch for step in range(12) for batch in plan.micro_batches(0, step, step + 1)]
    assert [batch.epoch for batch in whole] == [0] * 12 + [1] * 12 + [2] * 12
    assert all(torch.equal(one.samples, other.samples) for one, other in zip(whole, parts, strict=True))


def test_end_of_epoch() -> None:
    plan = TrainingSampler(num_samples=50, seed=3, micro_batch_size=16)
    assert [plan.epoch_end(step) for step in (0, 2, 3, 7)] == [3, 3, 6, 9]


@pytest.mark.parametrize(
    ("num_samples", "micro", "accumulation", "world_size", "fits"),
    [(100, 64, 2, 1, "at most 64"), (100, 30, 2, 2, "at most 60"), (7, 4, 1, 2, "at most 7")],
)
def test_too_few_samples_for_a_batch(
    num_samples: int, micro: int, accumulation: int, world_size: int, fits: str
) -> None:
    with pytest.raises(UserError) as caught:
        TrainingSampler(num_samples, 1, micro, accumulation, world_size)
    (fault,) = caught.value.faults
    assert fault.key == "trainer.global_batch_size"
    assert fault.value == str(micro * accumulation * world_size)
    assert fits in fault.remedy


def test_evaluation_sees_each_sample_once_in_equally_many_batches_of_equal_sizes() -> None:
    for num_samples in range(1, 40):
        for world_size in range(1, min(num_samples, 8) + 1):
            for batch_size in (1, 2, 3, 7, 64):
                plan = EvaluationSampler(num_samples, batch_size, world_size)
                ranks = [[batch.samples.tolist() for batch in plan.batches(r)] for r in range(world_size)]
                sizes = [len(batch) for rank in ranks for batch in rank]
                assert sorted(sample for rank in ranks for batch in rank for sample in batch) == list(
                    range(num_samples)
                )
                assert {len(rank) for rank in ranks} == {plan.num_batches}
                assert max(sizes) - min(sizes) <= 1
                assert min(sizes) >= 1
                assert max(sizes) == plan.largest_batch <= max(batch_size, 2)
                # No more batches than needed.
                assert (plan.num_batches - 1) * batch_size * world_size < num_samples


def test_fewer_samples_than_ranks_are_refused_on_each_rank() -> None:
    with pytest.raises(UserError, match=r"the test split has 3 images for 4 ranks.*at most 3 ranks"):
        EvaluationSampler(3, 8, 4, "test")
    with pytest.raises(UserError, match="the val split has 0 images"):
        EvaluationSampler(0, 8, 1)
