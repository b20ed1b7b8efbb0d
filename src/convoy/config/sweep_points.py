"""Expansion of a sweep's overrides with several values into one command line per point."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.errors import HydraException

from convoy.config.faults import Fault, UserError
from convoy.config.hydra_errors import written
from convoy.config.options import Options
from convoy.config.override_text import parse_override
from convoy.config.schema import GROUPS


def points(overrides: Sequence[str], options: Options | None = None) -> list[list[str]]:
    """Return all combinations of the values; the last override changes fastest, as in Hydra.

    `model=vgg16,resnet18 seed=range(3)` has six points. An override that can't be parsed is not changed; the
    composition of its points reports the mistake.

    Raises:
        UserError: if no override has several values.
    """
    axes: list[list[str]] = []
    for text in overrides:
        try:
            override = parse_override(text)
        except HydraException:
            axes.append([text])
            continue
        if override.is_sweep_override():
            key = override.get_key_element()
            axes.append([f"{key}={value}" for value in _values(override, options or Options())])
        else:
            axes.append([text])
    if all(len(axis) == 1 for axis in axes):
        remedy = "separate values with commas, as in model=vgg16,resnet18, or omit -m"
        raise UserError(Fault("-m", "a sweep needs a key with several values", remedy))
    return [list(point) for point in product(*axes)]


def _values(override: Override, options: Options) -> list[str]:
    key, value = override.key_or_group, override.value()
    if isinstance(value, IntervalSweep):
        remedy = f"list the values, as in {key}=0.01,0.1, or write {key}=range(start,stop,step)"
        raise UserError(Fault(key, "an interval has no list of values for a grid", remedy, written(override)))
    if not isinstance(value, Glob):
        return [str(one) for one in override.sweep_string_iterator()]
    if key not in GROUPS:
        raise UserError(
            Fault(key, "glob selects options of a group, and this is a key", "list the values", written(override))
        )
    found = value.filter(options.of(key))
    if not found:
        rule = "no option matches"
        raise UserError(Fault(key, rule, f"convoy train --help {key} lists the options", written(override)))
    return [str(name) for name in found]


def varied(overrides: Sequence[str], options: Options | None = None) -> list[str]:
    """Return the keys with several values, in the given order."""
    all_points = points(overrides, options)
    columns = zip(*all_points, strict=True)
    return [column[0].partition("=")[0] for column in columns if len(set(column)) > 1]
