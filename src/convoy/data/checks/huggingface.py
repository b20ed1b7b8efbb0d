"""Check of data sets of Hugging Face; imports `datasets`, but no torch."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.faults import Fault, UserError, fault_of
from convoy.config.schema import DataConfig
from convoy.data.checks.source_check import padding_faults, uncounted_faults
from convoy.data.huggingface.dataset_rows import read_targets
from convoy.data.huggingface.loading import is_local
from convoy.data.targets import plural_of


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
    try:
        classes = count_targets(data)
    except UserError as error:
        yield from error.faults
        return
    if data.num_classes not in (None, classes):
        rule = f"{data.root} has {classes} {plural_of(data.target)}"
        yield fault_of("data.num_classes", data.num_classes, rule, "write data.num_classes=null")
