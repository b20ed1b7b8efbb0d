"""Channels of decoded images, and the background of transparent ones. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convoy.config.data_schema import DataConfig

Color = tuple[int, int, int]
"""Red, green and blue, each 0 to 255."""

ValueRange = tuple[float, float]

PICTURE_CHANNELS = (1, 3)
"""Channels of gray and RGB images."""

COLORS: dict[str, Color] = {"white": (255, 255, 255), "black": (0, 0, 0)}


@dataclass(frozen=True)
class PixelFormat:
    """Format of decoded pixels.

    Attributes:
        channels: 1 for gray, 3 for RGB, or another number, which files must have.
        background: color below transparent pixels; None to ignore transparency.
        value_range: values of more than 8 bits that become 0 and 255; None for the range of their type.
    """

    channels: int
    background: Color | None = None
    value_range: ValueRange | None = None

    @property
    def is_picture(self) -> bool:
        """Whether pixels are gray or RGB."""
        return self.channels in PICTURE_CHANNELS

    @classmethod
    def of(cls, data: DataConfig) -> PixelFormat:
        """Return the format of a checked config."""
        return cls(data.channels, color_of(data.background), range_of(data.value_range))


def range_of(value: Sequence[float] | None) -> ValueRange | None:
    """Return the smallest and the largest value of a checked `data.value_range`."""
    return None if value is None else (float(value[0]), float(value[1]))


def color_of(value: Any) -> Color | None:
    """Return the color of a value of `data.background`; None for null.

    Raises:
        ValueError: if the value is not a color.
    """
    if value is None:
        return None
    if isinstance(value, str) and value in COLORS:
        return COLORS[value]
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 3:
        raise ValueError(value)
    if not all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= 255 for one in value):
        raise ValueError(value)
    red, green, blue = value
    return red, green, blue
