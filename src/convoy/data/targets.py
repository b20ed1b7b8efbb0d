"""Kinds of target that a data set can have. Imports neither torch nor NumPy.

One batch of targets, by kind, for n samples:

| kind | tensor | a network predicts |
|---|---|---|
| `class_index` | int64 [n], indices into the class names | one of several classes |
| `multi_hot` | float32 [n, labels], 1 where the label applies, else 0 | any number of labels |
| `values` | float32 [n, values] | one or several numbers |
| `mask` | int64 [n, H, W], indices into the class names, `IGNORED` where no class counts | a class per pixel |
| `keypoints` | float32 [n, points, 4]: x, y, 1 if the point is known, else 0, and the scale | a position per point |
| `image` | float32 [n, C, s H, s W], values in 0..1; s is the scale of super-resolution, else 1 | an image |

A target of the first three kinds describes the whole image: geometric augmentation (crops, flips, resizing) moves the
pixels only. The others have positions in the image and are moved with it (`data/located`): a mask takes the nearest
pixel, and `IGNORED` outside of the image; a point outside of the image becomes unknown, and a flip exchanges the points
of the left and the right side; images are moved before the network's input is computed from them. Coordinates are in
pixels of the network's input, and the center of the upper left pixel is (0, 0). The scale of a key point is the number
of pixels of the image file per pixel of the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convoy.config.faults import Fault, UserError

CLASS_INDEX = "class_index"
MULTI_HOT = "multi_hot"
VALUES = "values"

MASK = "mask"
KEYPOINTS = "keypoints"
IMAGE = "image"

KINDS = (CLASS_INDEX, MULTI_HOT, VALUES, MASK, KEYPOINTS, IMAGE)
LOCATED_KINDS = (MASK, KEYPOINTS, IMAGE)
"""Kinds with positions in the image."""

IGNORED = 255
"""Value of the pixels of a mask that are not counted."""

_NOUNS = {
    CLASS_INDEX: ("class", "classes"),
    MULTI_HOT: ("label", "labels"),
    VALUES: ("value", "values"),
    MASK: ("class", "classes"),
    KEYPOINTS: ("point", "points"),
    IMAGE: ("channel", "channels"),
}


def plural_of(kind: str) -> str:
    """Return the noun for several targets of a kind, such as classes, labels or values."""
    return _NOUNS.get(kind, _NOUNS[CLASS_INDEX])[1]


@dataclass(frozen=True)
class Targets:
    """Kind and names of a data set's targets.

    Attributes:
        kind: one of `KINDS`.
        names: names of the classes, labels, values, points or channels, in the order of the tensor's indices or
            columns.
    """

    kind: str
    names: tuple[str, ...]

    @property
    def noun(self) -> str:
        """Noun for one target, such as class, label or value."""
        return _NOUNS[self.kind][0]

    def describe(self) -> str:
        """Return the number of names in words, such as `10 classes`."""
        return f"{len(self.names)} {self.noun if len(self.names) == 1 else plural_of(self.kind)}"

    @classmethod
    def unnamed(cls, kind: str, count: int) -> Targets:
        """Return targets of known number without names, for a ledger or a plan, which read no data."""
        return cls(kind, tuple(str(index) for index in range(count)))

    @property
    def are_numbered(self) -> bool:
        """Whether the names are the indices: the data set has no names."""
        return self.names == tuple(str(index) for index in range(len(self.names)))


def positions_of(found: Targets, trained: Targets, key: str, name: str) -> tuple[int, ...]:
    """Return the index of each class of a data set among a network's classes, matched by name.

    Args:
        found: targets of the data set.
        trained: targets that a network was trained with.
        key: setting that names the data set, for errors.
        name: name of the data set, for errors.

    Raises:
        UserError: if the network was not trained with one of the classes, or with another kind or number of targets.
    """
    same_number = len(found.names) == len(trained.names)
    if found.kind != trained.kind or (found.kind != CLASS_INDEX and not same_number):
        rule = f"has {found.describe()} ({found.kind}); train has {trained.describe()} ({trained.kind})"
        raise UserError(Fault(key, rule, "choose a data set with the same targets", name))
    if found.kind != CLASS_INDEX or (same_number and found.are_numbered):
        return tuple(range(len(found.names)))
    if unknown := [one for one in found.names if one not in trained.names]:
        rule = f"has classes that train does not have: {listed(unknown)}"
        remedy = f"remove or rename them; the classes of train are {listed(trained.names)}"
        raise UserError(Fault(key, rule, remedy, name))
    return tuple(trained.names.index(one) for one in found.names)


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return the first `most` names, separated by commas, and the number of the others."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, such as `1 image` or `1,200 images`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"
