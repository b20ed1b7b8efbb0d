"""Expansion of a sweep's overrides with several values into one command line per point."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from hydra.core.override_parser.types import Glob, IntervalSweep, Override
from hydra.errors import HydraException

from convoy.config.faults import Fault, UserError
from convoy.config.hydra_errors import written
from convoy.config.options import Options
from convoy.config.override_text import ZIP, parse_override
from convoy.config.schema import GROUPS


def points(overrides: Sequence[str], options: Options | None = None) -> list[list[str]]:
    """Return all combinations of the values; the last override changes fastest, as in Hydra.

    `model=vgg16,resnet18 seed=range(3)` has six points. Keys with zip(…) take their values in step:
    `model=zip(vgg16,resnet18) optimizer.lr=zip(0.01,0.1)` has two points. An override that can't be parsed is not
    changed; the composition of its points reports the mistake.

    Raises:
        UserError: if no override has several values.
    """
    columns: list[list[str]] = []
    zipped: list[int] = []
    for text in overrides:
        try:
            override = parse_override(text)
        except HydraException:
            columns.append([text])
            continue
        if not override.is_sweep_override():
            columns.append([text])
            continue
        if ZIP in getattr(override.value(), "tags", ()):
            zipped.append(len(columns))
        columns.append(values_of_sweep(override, options or Options()))
    if all(len(column) == 1 for column in columns):
        remedy = "separate values with commas, as in model=vgg16,resnet18, or omit -m"
        raise UserError(Fault("-m", "a sweep needs a key with several values", remedy))
    _check_lengths([columns[index] for index in zipped])
    # The keys of a zip are one axis, at the place of the first one.
    axes = [zipped if [index] == zipped[:1] else [index] for index in range(len(columns)) if index not in zipped[1:]]
    rows = [list(zip(*(columns[index] for index in axis), strict=True)) for axis in axes]
    order = [index for axis in axes for index in axis]
    found = []
    for point in product(*rows):
        words = dict(zip(order, (text for texts in point for text in texts), strict=True))
        found.append([words[index] for index in range(len(columns))])
    return found


def _check_lengths(zipped: Sequence[Sequence[str]]) -> None:
    if len({len(column) for column in zipped}) > 1:
        counts = ", ".join(f"{column[0].partition('=')[0]} has {len(column)}" for column in zipped)
        raise UserError(Fault(ZIP, f"needs lists of the same length, and {counts}", "add or remove values"))


def values_of_sweep(override: Override, options: Options) -> list[str]:
    """Return one override per value.

    Raises:
        UserError: the values can't be listed.
    """
    return [f"{override.get_key_element()}={value}" for value in _values(override, options)]


def _values(override: Override, options: Options) -> list[str]:
    key, value = override.key_or_group, override.value()
    if isinstance(value, IntervalSweep):
        remedy = f"draw values with convoy search '{override.input_line}' …, or list them, as in {key}=0.01,0.1"
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
