"""Checks of the settings that choose the training images of an epoch. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, did_you_mean, fault_of
from convoy.data.source_names import SHARDS_SOURCE
from convoy.data.targets import CLASS_INDEX

NO_SAMPLER = "none"
SAMPLERS = (NO_SAMPLER, "balanced", "sqrt")


def sampling_faults(data: DataConfig) -> Iterator[Fault]:
    """Yield the faults of data.sampler, repeats and max_per_class."""
    if data.sampler not in SAMPLERS:
        remedy = did_you_mean(data.sampler, SAMPLERS)
        yield fault_of("data.sampler", data.sampler, f"must be {', '.join(SAMPLERS[:-1])} or {SAMPLERS[-1]}", remedy)
    for name, value in (("repeats", data.repeats), ("max_per_class", data.max_per_class)):
        if value is not None and value < 1:
            yield fault_of(f"data.{name}", value, "must be at least 1")
    changed = {
        "sampler": (data.sampler, data.sampler != NO_SAMPLER, NO_SAMPLER),
        "repeats": (data.repeats, data.repeats != 1, "1"),
        "max_per_class": (data.max_per_class, data.max_per_class is not None, "null"),
    }
    for name, (given, is_set, default) in changed.items():
        remedy = f"write data.{name}={default}"
        if is_set and (data.source == SHARDS_SOURCE or data.streaming):
            which = "data.streaming=true, which reads" if data.streaming else "shards, which are read"
            yield fault_of(f"data.{name}", given, f"can't be used with {which} in sequence", remedy)
        elif is_set and data.target != CLASS_INDEX and name != "repeats":
            rule = f"needs classes, and the targets are data.target={data.target}"
            yield fault_of(f"data.{name}", given, rule, remedy)
    if data.repeats > 1 and data.sampler != NO_SAMPLER:
        yield fault_of("data.repeats", data.repeats, "can't be combined with data.sampler", "write data.repeats=1")
