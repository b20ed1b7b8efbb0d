"""Stratified split of a data set, the same for every run."""

from __future__ import annotations

import torch
from torch import Tensor

from convoy.config.faults import Fault, UserError
from convoy.data.sampling.randomness import Stream, random_bits

SPLIT_SEED = 20140904
"""Constant, so that runs with different seeds hold out the same samples and can be compared."""


def stratified_split(labels: Tensor, fraction: float, key: str = "data.val_fraction") -> tuple[Tensor, Tensor]:
    """Split samples so that each class has its share on both sides.

    Args:
        labels: [n] int64, classes of the samples.
        fraction: share of the samples to hold out, 0 to 1. The share of each class is rounded down or up so
            that the sum is the nearest to fraction * n; a class keeps at least one sample.
        key: setting of the fraction, for the error.

    Returns:
        The indices kept and the indices held out, each [.] int64 in ascending order.

    Raises:
        UserError: if no sample would be held out.
    """
    sizes = torch.bincount(labels)
    shares = sizes.to(torch.float64) * fraction
    counts = shares.floor().to(torch.int64)
    missing = round(fraction * len(labels)) - int(counts.sum())
    # One more sample is held out of the classes with the largest rounding error; ties are resolved by class order.
    by_loss = torch.argsort(counts - shares, stable=True)
    counts[by_loss[: max(missing, 0)]] += 1
    counts = torch.minimum(counts, (sizes - 1).clamp_min(0))
    if int(counts.sum()) == 0:
        raise _nothing_held_out(int(sizes.max()), len(labels), fraction, key)

    samples = torch.arange(len(labels))
    bits = random_bits(SPLIT_SEED, 0, samples, [Stream.SPLIT])[0]
    shuffled = torch.argsort(bits)
    grouped = shuffled[torch.argsort(labels[shuffled], stable=True)]
    rank_in_class = samples - (sizes.cumsum(0) - sizes)[labels[grouped]]
    held_out = rank_in_class < counts[labels[grouped]]
    return grouped[~held_out].sort().values, grouped[held_out].sort().values


def _nothing_held_out(largest: int, count: int, fraction: float, key: str) -> UserError:
    if largest == 1:
        split = "test" if "test" in key else "val"
        rule = f"can't hold out an image: each class has only one of the {count} images, which train needs"
        return UserError(Fault(key, rule, f"add images, or a {split} split", f"{fraction:g}"))
    return UserError(
        Fault(key, f"holds out none of {count} images", f"write {key}={1 / count:.2g} or more", f"{fraction:g}")
    )
