"""Random numbers that depend on (seed, epoch, sample, stream) only.

The random numbers of a sample are a hash of these four, not the next numbers of a generator. They are the same in any
batch, on any rank, thread or device, and after a resume. The hash is SplitMix64: a counter times the golden ratio,
mixed by Stafford's variant 13 (Steele, Lea, Flood: "Fast Splittable
Pseudorandom Number Generators", OOPSLA 2014, figure 17), in int64 arithmetic that wraps around.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


class Stream(IntEnum):
    """Purpose of a random number. Streams are independent of each other, and the number of a stream never changes."""

    ORDER = 0
    CROP_TOP = 1
    CROP_LEFT = 2
    MIRROR = 3
    CUTOUT_TOP = 4
    CUTOUT_LEFT = 5
    SPLIT = 6
    PACKED_ORDER = 7
    SHARD_ORDER = 8
    SHARD_START = 9
    SHUFFLE_BUFFER = 10
    TRANSFORMS = 11
    DATASET = 12
    ROTATION = 13
    GRAYSCALE = 14
    PER_CLASS = 15
    WEIGHTED_ORDER = 62
    # Several streams each, as many as `BatchAugmentation` draws from.
    AFFINE = 16
    PERSPECTIVE = 24
    COLOR_JITTER = 40
    BLUR = 48
    THREE_AUGMENT = 52
    PCA_LIGHTING = 56
    # One stream for each of `crop_geometry.NUM_CROP_NUMBERS`.
    RESIZED_CROP = 64
    SCALE_JITTER = 112
    ERASING = 128
    POLICY = 160


def random_bits(seed: int, epoch: int, samples: Tensor, streams: Sequence[int]) -> Tensor:
    """Return 64 random bits for each stream and sample.

    Args:
        seed: seed of the run.
        epoch: epoch, counted from 0.
        samples: [B] int64, indices of the samples, on any device.
        streams: S values of `Stream`.

    Returns:
        [S, B] int64, uniform over all 64-bit patterns, on the device of `samples`.
    """
    keys = [_signed(_key(seed, epoch, stream)) for stream in streams]
    counters = samples * _signed(_GOLDEN)
    if len(keys) == 1:
        return _mix(counters + keys[0])[None]
    return _mix(torch.tensor(keys, device=samples.device)[:, None] + counters)


def as_uniform(bits: Tensor) -> Tensor:
    """Return float32 in [0, 1) from the upper 24 of 64 random bits, which a float32 represents exactly."""
    return (bits >> 40 & 0xFFFFFF).to(torch.float32) * 2.0**-24


def as_integers(bits: Tensor, high: int) -> Tensor:
    """Return int64 in 0 .. high-1 from 64 random bits, for `high` up to 2^31.

    The result is the upper 32 bits times `high`, divided by 2^32 (Lemire: "Fast Random Integer Generation in an
    Interval", 2019). The probabilities of two values differ by at most one part in 2^32 / high.
    """
    return (bits >> 32 & 0xFFFFFFFF) * high >> 32


def as_coin(bits: Tensor) -> Tensor:
    """Return bool from 64 random bits, True with probability 1/2."""
    return bits < 0


def permutation(seed: int, epoch: int, size: int, stream: int = Stream.ORDER) -> Tensor:
    """Return 0 .. size-1 in random order, [size] int64 on the CPU.

    Samples are sorted by their random numbers, which are all different: within one stream, SplitMix64 maps different
    counters to different numbers.
    """
    return torch.argsort(random_bits(seed, epoch, torch.arange(size), [stream])[0])


def _key(seed: int, epoch: int, stream: int) -> int:
    """Return the start of a stream, unsigned. Mixing each part separates neighbouring seeds and epochs."""
    key = 0
    for part in (seed, epoch, stream):
        key = _mix_unsigned(key + part + 1)
    return key


def _mix_unsigned(number: int) -> int:
    number = number * _GOLDEN & _MASK
    number = (number ^ number >> 30) * _MIX_1 & _MASK
    number = (number ^ number >> 27) * _MIX_2 & _MASK
    return number ^ number >> 31


def _mix(numbers: Tensor) -> Tensor:
    numbers = (numbers ^ _shifted_right(numbers, 30)) * _signed(_MIX_1)
    numbers = (numbers ^ _shifted_right(numbers, 27)) * _signed(_MIX_2)
    return numbers ^ _shifted_right(numbers, 31)


def _shifted_right(numbers: Tensor, count: int) -> Tensor:
    """Return the logical shift to the right; torch's `>>` copies the sign."""
    return numbers >> count & (1 << 64 - count) - 1


def _signed(number: int) -> int:
    """Return the int64 with the same 64 bits."""
    return number - (1 << 64) if number >> 63 else number


class SampleRandomness(TorchFunctionMode):
    """Context in which torch's random functions draw from a generator for one sample.

    It acts on the thread that enters it and leaves torch's global generators alone, so several threads can transform
    images while another one trains. Random numbers of Python's `random` or of NumPy are not affected.
    """

    _RANDOM = frozenset(
        [
            *("rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm"),
            *("bernoulli", "multinomial", "normal", "poisson", "_sample_dirichlet", "_standard_gamma"),
            *("bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "normal_", "random_", "uniform_"),
        ]
    )

    def __init__(self, seed: int) -> None:
        """Store the seed, any int64."""
        super().__init__()
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self._RANDOM and kwargs.get("generator") is None:
            tensors = [value for value in args if isinstance(value, Tensor)]
            device = kwargs.get("device") or (tensors[0].device if tensors else "cpu")
            kwargs = {**kwargs, "generator": self._generator(torch.device(device))}
        return func(*args, **kwargs)

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]
