"""Targets with positions in their image, of files that were listed before training and of data sets of the user."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from convoy.config.data_schema import DataConfig
from convoy.data.degradation.image_targets import ImageTargets
from convoy.data.images.bad_images import BadImageError
from convoy.data.images.decode import LazyImage
from convoy.data.listing.image_files import ImageFiles
from convoy.data.located.class_table import mask_classes
from convoy.data.located.image_pairs import ImagePairs
from convoy.data.located.located_targets import LocatedTargets
from convoy.data.located.mask_files import MaskReader
from convoy.data.located.masks import MaskTargets
from convoy.data.located.points import PointTargets, mirrored_points
from convoy.data.targets import IMAGE, KEYPOINTS, MASK, Targets


def open_targets(files: ImageFiles, targets: Targets, data: DataConfig) -> LocatedTargets | None:
    """Return the targets of a split that move with their images; None for targets of whole images.

    Args:
        files: images of the split with their targets: paths of masks, or x, y and 1 or 0 of each key point. Images are
            their own targets.
        targets: kind and names.
        data: the data config.

    Raises:
        UserError: if the first mask has values or colors that are no class.
    """
    if targets.kind == MASK:
        read, masks = mask_reader(data), files.targets
        if masks:
            # Masks of a wrong kind are usually all wrong: one is read before a run has a folder.
            with suppress(BadImageError):
                read(masks[0])
        return MaskTargets(
            len(files), lambda at, _: read(masks[at]), lambda at: (masks[at], files.paths[at]), len(targets.names)
        )
    if targets.kind == IMAGE:
        return ImageTargets(data.degradation, len(targets.names))
    if targets.kind == KEYPOINTS:
        points = np.array(files.targets, dtype=np.float32).reshape(len(files), len(targets.names), 3)
        return PointTargets(len(files), lambda at, _: points[at], _mirrored(targets, data))
    return None


class Items(Protocol):
    """Split of a data set of the user, whose images have their target, see `item_forms`."""

    def __len__(self) -> int: ...

    def name(self, sample: int) -> str:
        """Return the name of an image, for errors."""
        ...

    def item(self, sample: int) -> LazyImage:
        """Open an image."""
        ...


def open_item_targets(items: Items, targets: Targets, data: DataConfig, key: str) -> LocatedTargets:
    """Return the targets of a split that a data set returns with their images.

    Args:
        items: the split.
        targets: kind and names, a kind with positions.
        data: the data config.
        key: setting that names the data set, for errors.
    """

    def read(sample: int, picture: LazyImage | None) -> NDArray[Any]:
        target: NDArray[Any] = (items.item(sample) if picture is None else picture).target
        return target

    def names(sample: int) -> tuple[str, str]:
        return f"the mask of {items.name(sample)}", items.name(sample)

    if targets.kind == MASK:
        return MaskTargets(len(items), read, names, len(targets.names), key)
    if targets.kind == KEYPOINTS:
        return PointTargets(len(items), read, _mirrored(targets, data))
    return ImagePairs(items.name, len(targets.names), key, data.degradation.scale)


def mask_reader(data: DataConfig) -> MaskReader:
    """Return the reader of the masks of a data set.

    Raises:
        UserError: if the classes can't be used.
    """
    return MaskReader(mask_classes(data), data.ignored_values)


def _mirrored(targets: Targets, data: DataConfig) -> NDArray[np.int64]:
    return np.array(mirrored_points(targets.names, data.point_pairs))
