"""Counts of classes and labels, and distributions of values, by split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from convoy.data.targets import CLASS_INDEX, IMAGE, KINDS, VALUES, Targets

COUNTED_KINDS = tuple(kind for kind in KINDS if kind not in (VALUES, IMAGE))
"""Kinds of which an image has some names and not others."""


@dataclass(frozen=True)
class ValueRange:
    """Distribution of a value that a network predicts.

    Attributes:
        least: smallest value.
        mean: mean.
        most: largest value.
        deviation: standard deviation, with n.
    """

    least: float
    mean: float
    most: float
    deviation: float


def count_targets(targets: Targets, of_images: Tensor) -> list[int]:
    """Return the number of images of each class, or with each label.

    Args:
        targets: kind and names.
        of_images: targets of the images, see `BatchFacts`.
    """
    if targets.kind == CLASS_INDEX:
        counts: list[int] = torch.bincount(of_images.cpu().long(), minlength=len(targets.names)).tolist()
        return counts
    assert targets.kind in COUNTED_KINDS, "values are not counted"
    return [int(count) for count in of_images.sum(0)]


def value_ranges(of_images: Tensor) -> list[ValueRange]:
    """Return the distribution of each value, for float32 [n, values] with n > 0."""
    columns = of_images.double()
    stacked = torch.stack([columns.amin(0), columns.mean(0), columns.amax(0), columns.std(0, correction=0)], dim=1)
    return [ValueRange(*row) for row in stacked.tolist()]
