"""A sweep: overrides with several values, multiplied out into one command line a point."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from convoy.config.faults import Fault, UserError


def points(overrides: Sequence[str]) -> list[list[str]]:
    """Every combination of the values given, the last override changing fastest, as with Hydra.

    `model=vgg16,resnet18 seed=range(3)` gives six points. An override that can't be parsed is left as it is:
    composing its points tells what is wrong with it.

    Raises:
        UserError: no override has several values.
    """
    parser = OverridesParser.create()
    axes: list[list[str]] = []
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException:
            axes.append([text])
            continue
        if override.is_sweep_override():
            key = override.get_key_element()
            axes.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            axes.append([text])
    if all(len(axis) == 1 for axis in axes):
        remedy = "give several with commas, as in model=vgg16,resnet18, or leave out -m"
        raise UserError(Fault("-m", "a sweep needs a key with several values", remedy))
    return [list(point) for point in product(*axes)]


def varied(overrides: Sequence[str]) -> list[str]:
    """The keys that a sweep varies, in the order given."""
    all_points = points(overrides)
    columns = zip(*all_points, strict=True)
    return [column[0].partition("=")[0] for column in columns if len(set(column)) > 1]
