"""Images that are equal or look nearly equal, within a split and across splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from convoy.data.inspection.perceptual_hash import near_pairs

Group = tuple[int, ...]
"""Indices of images that are duplicates of each other, ascending."""


@dataclass(frozen=True)
class Duplicates:
    """Groups of duplicates.

    Attributes:
        equal: groups of images with the same decoded pixels.
        near: pairs of images that look nearly equal but differ; of equal images, only the first is compared.
    """

    equal: tuple[Group, ...]
    near: tuple[Group, ...]


@dataclass(frozen=True)
class DuplicateCounts:
    """Numbers of duplicates of one kind.

    Attributes:
        across: for two splits, number of images of the second that have a duplicate in the first.
        within: number of images of each split that duplicate an earlier one of that split.
        contradictory: number of images in groups with several targets.
    """

    across: dict[tuple[str, str], int]
    within: dict[str, int]
    contradictory: int


def find_duplicates(digests: Sequence[bytes], hashes: NDArray[np.uint64], details: NDArray[np.float16]) -> Duplicates:
    """Group images by their digests and by their looks.

    Args:
        digests: hash of the pixels of each image.
        hashes: perceptual hashes, uint64 [n].
        details: see `perceptual_hash.details`.
    """
    by_digest: dict[bytes, list[int]] = {}
    for index, digest in enumerate(digests):
        by_digest.setdefault(digest, []).append(index)
    distinct = np.array([group[0] for group in by_digest.values()], dtype=np.int64)
    pairs = distinct[near_pairs(hashes[distinct], details[distinct])]
    equal = tuple(tuple(group) for group in by_digest.values() if len(group) > 1)
    return Duplicates(equal, tuple((first, second) for first, second in pairs.tolist()))


def count_duplicates(groups: Sequence[Group], splits: Sequence[str], targets: Sequence[object]) -> DuplicateCounts:
    """Count duplicates by split.

    Args:
        groups: groups of images.
        splits: split of each image; images of a split follow each other.
        targets: target of each image.
    """
    names = list(dict.fromkeys(splits))
    across: dict[tuple[str, str], set[int]] = {
        (first, second): set() for index, first in enumerate(names) for second in names[index + 1 :]
    }
    within: dict[str, set[int]] = {name: set() for name in names}
    contradictory: set[int] = set()
    for group in groups:
        members: dict[str, list[int]] = {}
        for image in group:
            members.setdefault(splits[image], []).append(image)
        for (first, second), found in across.items():
            if first in members:
                found.update(members.get(second, ()))
        for name, images in members.items():
            within[name].update(images[1:])
        if any(targets[one] != targets[two] for one, two in pairwise(group)):
            contradictory.update(group)
    return DuplicateCounts(
        {key: len(found) for key, found in across.items()},
        {name: len(found) for name, found in within.items()},
        len(contradictory),
    )
