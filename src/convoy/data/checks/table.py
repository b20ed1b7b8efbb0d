"""Check of image tables. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.faults import Fault, UserError, fault_of
from convoy.config.schema import DataConfig
from convoy.data.checks.source_check import is_file, padding_faults, uncounted_faults
from convoy.data.tables.image_table import read_table
from convoy.data.tables.settings import setting_faults
from convoy.data.targets import plural_of


def count_targets(data: DataConfig) -> int:
    """See `SourceCheck`."""
    if found := list(setting_faults(data)):
        raise UserError(*found)
    return len(read_table(data).targets.names)


def faults(data: DataConfig, *, present: bool) -> Iterator[Fault]:
    """See `SourceCheck`."""
    yield from padding_faults(data)
    if not present and not is_file(data.file):
        yield from uncounted_faults(data, "file", "file")
        return
    try:
        names = count_targets(data)
    except UserError as error:
        yield from error.faults
        return
    if data.num_classes not in (None, names):
        rule = f"{data.file} has {names} {plural_of(data.target)}"
        yield fault_of("data.num_classes", data.num_classes, rule, "write data.num_classes=null to count them")
