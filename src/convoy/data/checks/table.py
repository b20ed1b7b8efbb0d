"""Check of image tables. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.data.checks.source_check import file_faults
from convoy.data.tables.image_table import read_table
from convoy.data.tables.settings import setting_faults


def count_targets(data: DataConfig) -> int:
    """See `SourceCheck`."""
    if found := list(setting_faults(data)):
        raise UserError(*found)
    return len(read_table(data).targets.names)


def faults(data: DataConfig, *, present: bool) -> Iterator[Fault]:
    """See `SourceCheck`."""
    yield from file_faults(data, count_targets, present=present)
