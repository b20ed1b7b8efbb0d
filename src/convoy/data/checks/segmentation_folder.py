"""Check of folders of images and masks. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError, fault_of
from convoy.data.checks.source_check import is_folder, mask_value_faults, padding_faults
from convoy.data.located.class_table import mask_classes
from convoy.data.located.mask_folders import SPLITS, find_pairs


def count_targets(data: DataConfig) -> int:
    """See `SourceCheck`."""
    return len(mask_classes(data).names)


def faults(data: DataConfig, *, present: bool) -> Iterator[Fault]:
    """See `SourceCheck`."""
    yield from padding_faults(data)
    yield from mask_value_faults(data)
    if data.splits is not None and not {"train"} <= set(data.splits) <= set(SPLITS):
        yield fault_of("data.splits", data.splits, "must be train and any of val and test", "write [train,val]")
    try:
        number = count_targets(data)
        if data.num_classes not in (None, number):
            rule = f"data.classes has {number} classes that are counted"
            yield fault_of("data.num_classes", data.num_classes, rule, "write data.num_classes=null to count them")
        if present or is_folder(data.root):
            find_pairs(data)
    except UserError as error:
        yield from error.faults
