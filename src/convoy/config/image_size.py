"""Size of the network's input: one number for a square, or [height, width]."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

ImageSize = int | Sequence[int]
"""Side of a square, or height and width, in pixels; the value of `data.image_size`."""

LARGEST_SIDE = 16384


class Sides(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"

    @property
    def shorter(self) -> int:
        """Length of the shorter side."""
        return min(self)

    @property
    def value(self) -> int | tuple[int, int]:
        """One number for a square, otherwise (height, width)."""
        return self.height if self.height == self.width else (self.height, self.width)

    @property
    def text(self) -> str:
        """Value as it is written on the command line: 224 or [224,320]."""
        return str(self.height) if self.height == self.width else f"[{self.height},{self.width}]"

    def with_shorter(self, shorter: int) -> Sides:
        """Return the sides of the same shape, of which the shorter one has `shorter` pixels."""
        return Sides(*(round(side * shorter / self.shorter) for side in self))


def sides_of(image_size: ImageSize) -> Sides:
    """Return height and width of an image size."""
    return Sides(image_size, image_size) if isinstance(image_size, int) else Sides(*image_size)


def sides_or_none(value: Any) -> Sides | None:
    """Return height and width of a value of `data.image_size`, or None if the value is not an image size."""
    sides = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value, value]
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) for side in sides):
        return None
    return Sides(*sides)


def remedy_for(value: Any) -> str:
    """Return what to write instead of a value that is not an image size."""
    given = re.findall(r"\d+", value) if isinstance(value, str) else []
    example = f"[{given[0]},{given[1]}]" if len(given) == 2 else "224 for a square, or [224,320]"
    return f"write {example}"
