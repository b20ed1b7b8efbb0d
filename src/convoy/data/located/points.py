"""Key points: positions in an image, some of which may be unknown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convoy.config.faults import Fault, UserError
from convoy.config.image_size import Sides
from convoy.data.augmentation.batch_augmentation import BatchOperations
from convoy.data.augmentation.operations import move_points
from convoy.data.images.decode import LazyImage
from convoy.data.located.located_targets import Pixels, ReadTarget, write_picture
from convoy.data.located.pictures import as_picture, with_points
from convoy.data.located.placement import Placement
from convoy.data.targets import listed

Numbers = NDArray[np.float32]


class PointTargets:
    """Key points of a split.

    Args:
        count: number of images.
        read: function that returns the points of an image, float32 [points, 3]: x and y in pixels of the image, and 1
            if the point is known, else 0; see `ReadTarget`.
        mirrored: index of the point that each point becomes when the image is flipped, such as the right ear for the
            left one; int64 [points].
    """

    def __init__(self, count: int, read: ReadTarget, mirrored: NDArray[np.int64]) -> None:
        self._count, self._read, self._mirrored = count, read, mirrored

    def __len__(self) -> int:
        return self._count

    def input_size(self, picture_size: Sides) -> Sides:
        """See `LocatedTargets`."""
        return picture_size

    def picture_size(self, input_size: Sides) -> Sides:
        """See `LocatedTargets`."""
        return input_size

    def slots(self, count: int, input_size: Sides) -> NDArray[Any]:
        """Return float32 [count, points, 4]."""
        return np.empty((count, len(self._mirrored), 4), dtype=np.float32)

    def write(self, sample: int, picture: LazyImage, placement: Placement, pixels: Pixels, slot: Numbers) -> None:
        """See `LocatedTargets`."""
        write_picture(picture, placement, pixels)
        points = self._read(sample, picture)
        slot[:, :2] = placement.points(points[:, :2])
        slot[:, 2] = points[:, 2]
        slot[:, 3] = placement.box.width / placement.size.width
        if placement.is_mirrored:
            slot[:] = slot[self._mirrored]

    def transform(self, transform: Any, pixels: Pixels, slot: Numbers) -> None:
        """See `LocatedTargets`."""
        from torchvision import tv_tensors

        image = tv_tensors.Image(torch.from_numpy(pixels).permute(2, 0, 1))
        # torchvision counts from the corner of the image, not from the center of the first pixel.
        before = tv_tensors.KeyPoints(torch.from_numpy(slot[:, :2] + np.float32(0.5)), canvas_size=pixels.shape[:2])
        image, after = transform(image, before)
        pixels[:] = image.permute(1, 2, 0).numpy()
        slot[:, :2] = after.numpy() - 0.5

    def complete(self, pixels: Pixels, slot: Numbers, seed: int | None) -> None:
        """See `LocatedTargets`; the input does not follow from the points."""

    def present(self, sample: int, picture: LazyImage) -> list[float]:
        """See `LocatedTargets`; what is outside of the image is unknown."""
        x, y, known = self._read(sample, picture).T
        present: list[float] = (known * _are_inside(x, y, Sides(picture.height, picture.width))).tolist()
        return present

    def drawn(self, pixels: Pixels, target: Tensor) -> Pixels:
        """See `LocatedTargets`."""
        return np.asarray(with_points(as_picture(pixels), known_points(target), len(target)))

    def finished(self, targets: Tensor, operations: BatchOperations | None, size: Sides) -> Tensor:
        """Return float32 [B, points, 4]; what is outside of the image is unknown."""
        if operations is not None:
            targets = torch.cat([move_points(targets[..., :2], operations.in_order), targets[..., 2:]], dim=-1)
        x, y, known, scale = targets.unbind(-1)
        known = known * _are_inside(x, y, size)
        return torch.stack([x * known, y * known, known, scale], dim=-1)


def _are_inside(x: Any, y: Any, size: Sides) -> Any:
    """Return whether points are in an image, as an array or a tensor of truth values like x and y."""
    return (x >= -0.5) & (y >= -0.5) & (x < size.width - 0.5) & (y < size.height - 0.5)


def known_points(target: Tensor) -> list[tuple[float, float]]:
    """Return x and y of the points of an image, [points, 4]; NaN for unknown ones."""
    return [(x, y) if known else (math.nan, math.nan) for x, y, known, _ in target.tolist()]


def mirrored_points(names: Sequence[str], pairs: Sequence[Sequence[str]] | None) -> list[int]:
    """Return the index of the point that each point becomes in a mirrored image.

    Args:
        names: names of the points.
        pairs: pairs of points of the left and the right side; None to find them by the words left and right.

    Raises:
        UserError: if a pair does not consist of two points.
    """
    places = {name: index for index, name in enumerate(names)}
    swapped = list(range(len(names)))
    if pairs is None:
        forms = {name.lower(): index for name, index in places.items()}
        for name, index in places.items():
            other = name.lower().replace("left", "\0").replace("right", "left").replace("\0", "right")
            swapped[index] = forms.get(other, index)
        return swapped
    for pair in pairs:
        if isinstance(pair, str) or len(pair) != 2 or any(str(name) not in places for name in pair):
            remedy = f"write pairs such as [[left_eye,right_eye]]; the points are {listed(names)}"
            written = pair if isinstance(pair, str) else f"[{','.join(map(str, pair))}]"
            raise UserError(Fault("data.point_pairs", f"{written} is no pair of points", remedy))
        first, second = (places[str(name)] for name in pair)
        swapped[first], swapped[second] = second, first
    return swapped
