"""Check of the sets of torchvision, which is not imported."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, fault_of
from convoy.data.checks.source_check import counted_faults, is_folder, padding_faults
from convoy.data.datasets.torchvision_sets import set_classes


def count_targets(data: DataConfig) -> int:
    """See `SourceCheck`."""
    return set_classes(data)


def faults(data: DataConfig, *, present: bool) -> Iterator[Fault]:
    """See `SourceCheck`."""
    yield from padding_faults(data)
    yield from counted_faults(data, count_targets, data.name)
    if present and not data.download and data.root is not None and not is_folder(data.root):
        yield fault_of("data.root", data.root, "is not a folder", "data.download=true downloads the set to it")
