"""Check of key points in COCO's format. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault
from convoy.data.checks.source_check import counted_faults, is_file, padding_faults, uncounted_faults
from convoy.data.located.coco_keypoints import point_names


def count_targets(data: DataConfig) -> int:
    """See `SourceCheck`."""
    return len(point_names(data))


def faults(data: DataConfig, *, present: bool) -> Iterator[Fault]:
    """See `SourceCheck`."""
    yield from padding_faults(data)
    if not present and not is_file(data.file):
        yield from uncounted_faults(data, "file", "file")
        return
    yield from counted_faults(data, count_targets, data.file)
