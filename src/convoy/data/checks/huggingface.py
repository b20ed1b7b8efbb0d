"""Check of data sets of Hugging Face; imports `datasets`, but no torch."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.data.checks.source_check import counted_faults, padding_faults, uncounted_faults
from convoy.data.huggingface.dataset_rows import read_targets
from convoy.data.huggingface.loading import is_local


def count_targets(data: DataConfig) -> int:
    """See `SourceCheck`."""
    if data.root is None:
        remedy = "give a folder that save_to_disk wrote, Parquet or Arrow files, or a name on the Hub"
        raise UserError(Fault("data.root", "is missing", remedy, "null"))
    return len(read_targets(data).names)


def faults(data: DataConfig, *, present: bool) -> Iterator[Fault]:
    """See `SourceCheck`."""
    yield from padding_faults(data)
    if not present and not is_local(data):
        yield from uncounted_faults(data, "root", "data set")
        return
    yield from counted_faults(data, count_targets, data.root)
