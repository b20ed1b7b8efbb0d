"""Check of key points in COCO's format. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault
from convoy.data.checks.source_check import file_faults
from convoy.data.located.coco_annotations import point_names


def count_targets(data: DataConfig) -> int:
    """See `SourceCheck`."""
    return len(point_names(data))


def faults(data: DataConfig, *, present: bool) -> Iterator[Fault]:
    """See `SourceCheck`."""
    yield from file_faults(data, count_targets, present=present)
