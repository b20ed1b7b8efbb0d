"""The random numbers: against a published sequence, and by statistical tests with fixed thresholds.

The numbers are fixed by the seed, so a test that passes once passes always; the thresholds are those at which a perfect
generator fails once in about ten thousand.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from convoy.data.sampling.randomness import Stream, _mix, as_coin, as_integers, as_uniform, permutation, random_bits

SAMPLES = torch.arange(50_000)


def as_unsigned(numbers: torch.Tensor) -> list[int]:
    return [number % (1 << 64) for number in numbers.tolist()]


def test_hash_is_splitmix64() -> None:
    # The first outputs of Vigna's splitmix64.c (https://prng.di.unimi.it/splitmix64.c) for the state 1234567, as
    # listed at https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64.
    golden = 0x9E3779B97F4A7C15
    states = [(1234567 + golden * step) % (1 << 64) for step in range(1, 6)]
    signed = torch.tensor([state - (1 << 64) if state >> 63 else state for state in states])
    assert as_unsigned(_mix(signed)) == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@pytest.mark.parametrize("stream", [Stream.ORDER, Stream.CROP_TOP, Stream.RESIZED_CROP + 39])
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (1, 0), (-3, 90), (2**40, 1)])
def test_uniform(seed: int, epoch: int, stream: int) -> None:
    numbers = as_uniform(random_bits(seed, epoch, SAMPLES, [stream])[0])
    assert numbers.dtype == torch.float32
    assert 0 <= float(numbers.min()) <= float(numbers.max()) < 1
    assert stats.kstest(numbers.double().numpy(), "uniform").pvalue > 1e-4
    counts = np.bincount((numbers * 100).long().numpy(), minlength=100)
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("high", [1, 2, 5, 9, 32, 1000])
def test_integers_are_uniform_and_reach_every_value(high: int) -> None:
    counts = torch.bincount(as_integers(random_bits(5, 2, SAMPLES, [Stream.CROP_LEFT])[0], high))
    assert len(counts) == high
    assert high == 1 or stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_every_bit_is_a_fair_coin() -> None:
    bits = random_bits(9, 4, SAMPLES, [Stream.MIRROR])[0]
    ones = [int((bits >> place & 1).sum()) for place in range(64)]
    assert min(stats.binomtest(count, len(SAMPLES)).pvalue for count in ones) > 1e-5
    assert int(as_coin(bits).sum()) == ones[63]


def test_streams_epochs_seeds_and_neighbours_are_independent() -> None:
    def number(seed: int, epoch: int, stream: int) -> torch.Tensor:
        return as_uniform(random_bits(seed, epoch, SAMPLES, [stream])[0]).double()

    series = [number(1, 0, stream) for stream in range(8)]
    series += [number(1, epoch, 1) for epoch in range(1, 6)] + [number(seed, 0, 1) for seed in range(2, 7)]
    series += [series[1].roll(1), series[1].roll(2)]
    correlations = torch.corrcoef(torch.stack(series)).fill_diagonal_(0)
    # 4.5 standard deviations; 190 pairs.
    assert float(correlations.abs().max()) < 4.5 / len(SAMPLES) ** 0.5
    joint = np.histogram2d(series[1].numpy(), series[2].numpy(), bins=16)[0]
    assert stats.chisquare(joint.ravel()).pvalue > 1e-4


def test_random_numbers_depend_only_on_the_sample() -> None:
    streams = [Stream.CROP_TOP, Stream.MIRROR, Stream.RESIZED_CROP]
    whole = random_bits(11, 3, SAMPLES, streams)
    shuffled = torch.randperm(len(SAMPLES), generator=torch.Generator().manual_seed(1))
    in_pieces = torch.cat([random_bits(11, 3, piece, streams) for piece in shuffled.split(777)], dim=1)
    assert torch.equal(in_pieces, whole[:, shuffled])
    one_stream = random_bits(11, 3, SAMPLES, [Stream.MIRROR])
    assert torch.equal(one_stream[0], whole[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_numbers_are_the_same_on_a_gpu() -> None:
    here = random_bits(11, 3, SAMPLES, list(range(8)))
    there = random_bits(11, 3, SAMPLES.cuda(), list(range(8)))
    assert torch.equal(there.cpu(), here)
    assert torch.equal(as_uniform(there).cpu(), as_uniform(here))
    assert torch.equal(as_integers(there, 9).cpu(), as_integers(here, 9))


def test_permutation_has_each_number_once_and_any_first_number() -> None:
    assert sorted(permutation(1, 0, 1000).tolist()) == list(range(1000))
    firsts = torch.stack([permutation(seed, 0, 10) for seed in range(5000)])
    for place in range(10):
        assert stats.chisquare(torch.bincount(firsts[:, place], minlength=10).numpy()).pvalue > 1e-4
    # Whether the first number is below the second one is a fair coin.
    assert stats.binomtest(int((firsts[:, 0] < firsts[:, 1]).sum()), 5000).pvalue > 1e-4
