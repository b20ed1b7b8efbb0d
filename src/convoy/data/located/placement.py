"""Placement of an image in the network's input: which part of it is shown where. Its targets are moved the same way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convoy.config.image_size import Sides
from convoy.data.images.crop_geometry import CropBox


@dataclass(frozen=True)
class Placement:
    """Part of an image, resized and put into the upper left corner of the result.

    Attributes:
        box: part of the image, in pixels.
        size: its size in the result, in pixels.
        is_mirrored: whether it is flipped left to right in the result.
    """

    box: CropBox
    size: Sides
    is_mirrored: bool = False

    @classmethod
    def fitting(cls, width: int, height: int, area: Sides, *, is_mirrored: bool = False) -> Placement:
        """Return the placement of a whole image as large as it fits into `area`.

        Args:
            width: width of the image, in pixels.
            height: height of the image, in pixels.
            area: size of the result.
            is_mirrored: see the class.
        """
        if width * area.height <= height * area.width:
            size = Sides(area.height, max(1, round(width * area.height / height)))
        else:
            size = Sides(max(1, round(height * area.width / width)), area.width)
        return cls(CropBox(0, 0, width, height), size, is_mirrored)

    def enlarged(self, scale: int) -> Placement:
        """Return the placement of an image that is `scale` times as large, in a result that is too."""
        box = self.box
        large = CropBox(scale * box.left, scale * box.top, scale * box.width, scale * box.height)
        return Placement(large, Sides(*(scale * side for side in self.size)), self.is_mirrored)

    def rows(self) -> NDArray[np.int64]:
        """Return the row of the image that is nearest to each row of the result."""
        return self.box.top + _nearest(self.box.height, self.size.height)

    def columns(self) -> NDArray[np.int64]:
        """Return the column of the image that is nearest to each column of the result."""
        columns = self.box.left + _nearest(self.box.width, self.size.width)
        return columns[::-1] if self.is_mirrored else columns

    def points(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return points (x, y) of the image, [n, 2], where the result shows them.

        Coordinates are in pixels; the center of the upper left pixel is (0, 0).
        """
        scale = np.array([self.size.width / self.box.width, self.size.height / self.box.height])
        moved = (points + 0.5 - [self.box.left, self.box.top]) * scale - 0.5
        if self.is_mirrored:
            moved[:, 0] = self.size.width - 1 - moved[:, 0]
        result: NDArray[np.float32] = moved.astype(np.float32)
        return result

    def source_points(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return points (x, y) of the result, [n, 2], in the image: the inverse of `points`."""
        scale = np.array([self.box.width / self.size.width, self.box.height / self.size.height])
        places = points.astype(np.float64)
        if self.is_mirrored:
            places[:, 0] = self.size.width - 1 - places[:, 0]
        result: NDArray[np.float32] = ((places + 0.5) * scale - 0.5 + [self.box.left, self.box.top]).astype(np.float32)
        return result


def _nearest(source: int, result: int) -> NDArray[np.int64]:
    """Return the index of `source` pixels whose center is nearest to that of each of `result` pixels."""
    return ((2 * np.arange(result) + 1) * source // (2 * result)).astype(np.int64)
