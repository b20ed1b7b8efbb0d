"""Check of map-style data sets, which are not built. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.data.checks.source_check import padding_faults
from convoy.data.targets import plural_of


def count_targets(data: DataConfig) -> int:
    """See `SourceCheck`."""
    raise UserError(*faults(data, present=True))


def faults(data: DataConfig, *, present: bool) -> Iterator[Fault]:  # noqa: ARG001 (the signature that checks share)
    """See `SourceCheck`."""
    yield from padding_faults(data)
    if data.train is None:
        remedy = "write train: {_target_: module.Class} in the option's file, see conf/data/dataset.yaml"
        yield Fault("data.train", "is missing", remedy, "null")
    if data.num_classes is None:
        rule = "can't be counted before the data set is built"
        yield Fault("data.num_classes", rule, f"give the number of {plural_of(data.target)}", "null")
