"""Kinds of target that a data set can have. Imports neither torch nor NumPy.

One batch of targets, by kind, for n samples:

| kind | tensor | a network predicts |
|---|---|---|
| `class_index` | int64 [n], indices into the class names | one of several classes |
| `multi_hot` | float32 [n, labels], 1 where the label applies, else 0 | any number of labels |
| `values` | float32 [n, values] | one or several numbers |

Geometric augmentation (crops, flips, resizing) moves the pixels only: a target of these three kinds describes the whole
image and is not changed by it. A kind whose targets are positions in the image (masks, boxes, keypoints, images) must
be moved together with the pixels; the rule of each such kind belongs here.
"""

from __future__ import annotations

from dataclasses import dataclass

CLASS_INDEX = "class_index"
MULTI_HOT = "multi_hot"
VALUES = "values"

KINDS = (CLASS_INDEX, MULTI_HOT, VALUES)

_NOUNS = {CLASS_INDEX: ("class", "classes"), MULTI_HOT: ("label", "labels"), VALUES: ("value", "values")}


@dataclass(frozen=True)
class Targets:
    """Kind and names of a data set's targets.

    Attributes:
        kind: one of `KINDS`.
        names: names of the classes, labels or values, in the order of the tensor's indices or columns.
    """

    kind: str
    names: tuple[str, ...]

    def describe(self) -> str:
        """Return the number of names in words, such as `10 classes`."""
        noun = _NOUNS[self.kind]
        return f"{len(self.names)} {noun[0] if len(self.names) == 1 else noun[1]}"

    @classmethod
    def unnamed(cls, kind: str, count: int) -> Targets:
        """Return targets whose number is known, but not their names: a ledger or a plan reads no data."""
        return cls(kind, tuple(str(index) for index in range(count)))
