"""Check of published sets that are read into memory. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, fault_of
from convoy.config.image_size import sides_or_none
from convoy.data.checks.source_check import is_folder
from convoy.data.source_names import IMAGE_SIDES, NUM_CLASSES


def count_targets(data: DataConfig) -> int:
    """See `SourceCheck`."""
    return NUM_CLASSES[data.source]


def faults(data: DataConfig, *, present: bool) -> Iterator[Fault]:
    """See `SourceCheck`."""
    classes, side = NUM_CLASSES[data.source], IMAGE_SIDES[data.source]
    if data.num_classes not in (None, classes):
        rule = f"{data.source} has {classes} classes"
        yield fault_of("data.num_classes", data.num_classes, rule, "write data.num_classes=null")
    size = sides_or_none(data.image_size)
    if data.fit == "pad" and size and size.shorter < side:
        rule = f"is less than the {side} pixels of {data.source}, and data.fit=pad never makes an image smaller"
        yield fault_of("data.image_size", data.image_size, rule, "use data.fit=resize")
    if data.eval_resize is not None:
        rule = "applies only to image folders and shards"
        yield fault_of("data.eval_resize", data.eval_resize, rule, "use data.image_size")
    if present and data.root is not None and not is_folder(data.root):
        yield fault_of("data.root", data.root, "is not a folder", "data.root=null searches the default folders")
