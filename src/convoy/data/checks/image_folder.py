"""Check of image folders. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError, fault_of
from convoy.data.checks.source_check import counted_faults, is_folder, padding_faults, uncounted_faults
from convoy.data.listing.folders import class_names, count_classes, find_layout
from convoy.data.listing.split_lists import find_lists, list_classes


def count_targets(data: DataConfig) -> int:
    """See `SourceCheck`."""
    if data.root is None:
        remedy = "give the folder with train/ and val/, each with one folder of images per class"
        raise UserError(Fault("data.root", "is missing", remedy, "null"))
    lists = find_lists(data)
    return count_classes(data.root) if lists is None else len(list_classes(lists))


def faults(data: DataConfig, *, present: bool) -> Iterator[Fault]:
    """See `SourceCheck`."""
    yield from padding_faults(data)
    if not present and not is_folder(data.root):
        yield from uncounted_faults(data, "root", "folder")
        return
    yield from counted_faults(data, _classes, data.root)


def _classes(data: DataConfig) -> int:
    """Return the number of classes of a classifier, which has two or more."""
    if data.root is not None and find_lists(data) is None:
        names = class_names(find_layout(data.root).train)
        if set(names) == {data.image_folder, data.mask_folder}:
            rule = f"has the folders {' and '.join(names)}, which are no classes"
            remedy = f"for images with masks write data=segmentation_folder data.root={data.root}"
            raise UserError(Fault("data.root", rule, remedy))
    if (classes := count_targets(data)) < 2:
        raise UserError(fault_of("data.root", data.root, "has one class", "a classifier needs two or more"))
    return classes
