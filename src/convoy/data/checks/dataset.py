"""Check of map-style data sets, which are not built. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.data_schema import DataConfig
from convoy.config.degradation_schema import DegradationConfig
from convoy.config.faults import Fault, UserError, fault_of
from convoy.data.checks.source_check import (
    counted_faults,
    mask_value_faults,
    padding_faults,
    restored_view_faults,
    scale_faults,
)
from convoy.data.degradation.restoration_folders import CHANNEL_NAMES
from convoy.data.located.class_table import mask_classes
from convoy.data.targets import IMAGE, MASK, plural_of


def count_targets(data: DataConfig) -> int:
    """See `SourceCheck`."""
    if data.target == MASK and data.classes is not None:
        return len(mask_classes(data).names)
    if data.target == IMAGE:
        return data.channels
    rule = "can't be counted before the data set is built"
    raise UserError(Fault("data.num_classes", rule, f"give the number of {plural_of(data.target)}", "null"))


def faults(data: DataConfig, *, present: bool) -> Iterator[Fault]:  # noqa: ARG001 (the signature that checks share)
    """See `SourceCheck`."""
    yield from padding_faults(data)
    if data.train is None:
        remedy = "write train: {_target_: module.Class} in the option's file, see conf/data/dataset.yaml"
        yield Fault("data.train", "is missing", remedy, "null")
    yield from _degradation_faults(data)
    if data.target == IMAGE:
        yield from restored_view_faults(data)
        if (channels := data.num_classes or data.channels) not in CHANNEL_NAMES:
            rule = "is the number of channels of the restored images"
            yield fault_of("data.num_classes", channels, rule, "write 1 (gray) or 3 (RGB)")
    elif data.num_classes is None or (data.target == MASK and data.classes is not None):
        yield from counted_faults(data, count_targets, "data.classes")
    yield from mask_value_faults(data)


def _degradation_faults(data: DataConfig) -> Iterator[Fault]:
    """Yield a fault for each step of the degradation, since the data set returns the network's input itself."""
    usual = DegradationConfig()
    for name, value in vars(data.degradation).items():
        off = getattr(usual, name)
        if name != "scale" and value != off:
            rule = "is a step of data=restoration; a data set returns the network's input itself"
            text = "null" if off is None else str(off).lower()
            yield fault_of(f"data.degradation.{name}", value, rule, f"write data.degradation.{name}={text}")
    scale = data.degradation.scale
    yield from scale_faults(data)
    if scale != 1 and data.target != IMAGE:
        rule = f"is for images as targets, and data.target is {data.target}"
        yield fault_of("data.degradation.scale", scale, rule, "write data.degradation.scale=1")
