"""Where the labels of a crowded plot go, so that none covers another. Plain geometry in pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_DIRECTIONS = 24
_STEPS = (2, 8, 16, 26, 38, 52, 70, 92, 120, 155, 200, 260, 340)
"""Pixels between a circle's edge and its label that are tried."""
_GAP = 2.0
_STRUCK = 150
"""What a label with a line through it costs: as much as so many pixels more to its circle."""


@dataclass(frozen=True)
class Box:
    """A rectangle, in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """Area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    def within(self, other: Box) -> bool:
        """Whether all of it lies in the other."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.bottom >= other.bottom
            and self.top <= other.top
        )


@dataclass(frozen=True)
class Line:
    """A straight line from one point to another, in pixels."""

    x: float
    y: float
    to_x: float
    to_y: float

    def crosses(self, box: Box) -> bool:
        """Whether a part of it lies in a box (by Liang & Barsky 1984: what each side leaves of the line)."""
        begin, end = 0.0, 1.0
        for start, way, low, high in (
            (self.x, self.to_x - self.x, box.left, box.right),
            (self.y, self.to_y - self.y, box.bottom, box.top),
        ):
            if way == 0:
                if not low < start < high:
                    return False
                continue
            near, far = sorted(((low - start) / way, (high - start) / way))
            begin, end = max(begin, near), min(end, far)
        return begin < end


@dataclass(frozen=True)
class Circle:
    """A circle, in pixels."""

    x: float
    y: float
    radius: float

    @property
    def box(self) -> Box:
        """The square around the inner part of the circle that a label should leave free."""
        side = self.radius * 0.8
        return Box(self.x - side, self.y - side, self.x + side, self.y + side)


def leader(circle: Circle, box: Box) -> Line:
    """From the centre of a circle to the nearest point of its label."""
    corner = min(max(circle.x, box.left), box.right), min(max(circle.y, box.bottom), box.top)
    return Line(circle.x, circle.y, *corner)


def place(circles: Sequence[Circle], sizes: Sequence[tuple[float, float]], bounds: Box) -> list[Box]:
    """A box for the label of each circle, near it, on no other label, within `bounds`.

    The most crowded circles choose first. A label may lie on a circle, or on another label's line to its circle,
    where there is no better place.

    Args:
        circles: what is labelled.
        sizes: width and height of each label.
        bounds: that no label may leave.
    """
    crowds = [
        sum(1 / (1 + math.hypot(one.x - other.x, one.y - other.y)) for other in circles if other is not one)
        for one in circles
    ]
    placed: dict[int, Box] = {}
    for index in sorted(range(len(circles)), key=lambda index: -crowds[index]):
        lines = [leader(circles[other], box) for other, box in placed.items()]
        placed[index] = _best(circles[index], sizes[index], circles, bounds, list(placed.values()), lines)
    return [placed[index] for index in range(len(circles))]


def _best(
    circle: Circle,
    size: tuple[float, float],
    circles: Sequence[Circle],
    bounds: Box,
    blocked: Sequence[Box],
    lines: Sequence[Line],
) -> Box:
    width, height = size
    best, least = None, math.inf
    for step in _STEPS:
        for direction in range(_DIRECTIONS):
            angle = 2 * math.pi * direction / _DIRECTIONS
            x = circle.x + math.cos(angle) * (circle.radius + step + width / 2)
            y = circle.y + math.sin(angle) * (circle.radius + step + height / 2)
            box = Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            roomy = Box(box.left - _GAP, box.bottom - _GAP, box.right + _GAP, box.top + _GAP)
            if not box.within(bounds) or any(roomy.overlap(other) for other in blocked):
                continue
            covered = sum(box.overlap(other.box) for other in circles) / (width * height)
            own = leader(circle, box)
            struck = sum(line.crosses(roomy) for line in lines) + sum(own.crosses(other) for other in blocked)
            cost = step + 60 * covered + 4 * abs(math.sin(angle)) + _STRUCK * struck
            if cost < least:
                best, least = box, cost
    if best is None:
        raise ValueError(f"{len(circles)} labels find no room: make the picture larger")
    return best
