"""Targets with positions in their image, of files that were listed before training."""

from __future__ import annotations

import numpy as np

from convoy.config.data_schema import DataConfig
from convoy.data.degradation.image_targets import ImageTargets
from convoy.data.image_files import ImageFiles
from convoy.data.located.class_table import mask_classes
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
    """
    if targets.kind == MASK:
        return MaskTargets(
            files.paths, files.targets, MaskReader(mask_classes(data), data.ignored_values), len(targets.names)
        )
    if targets.kind == IMAGE:
        return ImageTargets(data.degradation, len(targets.names))
    if targets.kind == KEYPOINTS:
        points = np.array(files.targets, dtype=np.float32).reshape(len(files), len(targets.names), 3)
        return PointTargets(points, np.array(mirrored_points(targets.names, data.point_pairs)))
    return None
