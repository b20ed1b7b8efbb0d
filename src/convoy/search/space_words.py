"""Search space in the words of a command line, in Hydra's grammar: `optimizer.lr=tag(log,interval(0.001,1))`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Glob, IntervalSweep, Override, QuotedString, RangeSweep
from hydra.errors import HydraException

from convoy.config.options import Options
from convoy.config.override_text import parse_override
from convoy.config.sweep_points import values_of_sweep

_LOG = "log"
"""Tag of an interval whose values are drawn evenly by their logarithm, as in Hydra's sweepers for Optuna and Ax."""


def split_space(words: Sequence[str], options: Options) -> tuple[dict[str, Any], list[str]]:
    """Return the parameters among the overrides as the `space` of a study, and the other overrides.

    Args:
        words: overrides of the command line.
        options: folders of the options.

    Raises:
        UserError: a glob matches no option.
    """
    space: dict[str, Any] = {}
    others = []
    for text in words:
        try:
            override = parse_override(text)
        except HydraException:  # reported with the config's other faults
            others.append(text)
            continue
        if override.is_sweep_override():
            space[override.get_key_element()] = _parameter(override, options)
        else:
            others.append(text)
    return space, others


def _parameter(override: Override, options: Options) -> dict[str, list[Any]]:
    value: Any = override.value()
    if isinstance(value, IntervalSweep):
        ends = [value.start, value.end]
        if _LOG in value.tags:
            return {"log_float": ends}
        return {"int" if all(isinstance(end, int) for end in ends) else "float": ends}
    if isinstance(value, Glob):
        return {"choice": [text.partition("=")[2] for text in values_of_sweep(override, options)]}
    if isinstance(value, RangeSweep):
        return {"choice": list(value.range())}
    return {"choice": [_plain(one) for one in value.list]}


def _plain(value: Any) -> Any:
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return {key: _plain(one) for key, one in value.items()} if isinstance(value, dict) else value
