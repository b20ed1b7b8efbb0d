"""Types and finiteness of resolved values.

OmegaConf checks a value against its field's type when the value is set, but does not check resolved interpolations.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from convoy.config.faults import Fault

_KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text"),
}


def type_faults(config: Any) -> list[Fault]:
    """Return a fault for each value with another type than its field, and for each number that is not finite.

    Args:
        config: a dataclass with resolved values.
    """
    return list(_of_fields(config, ""))


def _of_fields(node: Any, prefix: str) -> Iterator[Fault]:
    hints = get_type_hints(type(node))
    for one in fields(node):
        yield from _faults(getattr(node, one.name), hints[one.name], f"{prefix}{one.name}")


def _faults(value: Any, hint: Any, key: str) -> Iterator[Fault]:
    if value == "???":  # a mandatory value that is not set is reported elsewhere
        return
    if get_origin(hint) in (Union, types.UnionType):
        if value is None:
            return
        hint = next(one for one in get_args(hint) if one is not type(None))
    if is_dataclass(hint):
        if is_dataclass(value):
            yield from _of_fields(value, f"{key}.")
        else:
            yield Fault(key, "must be a mapping", f"write its keys, such as {key}.<key>=…", str(value))
    elif get_origin(hint) is list:
        if not isinstance(value, list):
            yield Fault(key, "must be a list", f"write {key}=[…]", str(value))
            return
        for index, child in enumerate(value):
            yield from _faults(child, get_args(hint)[0], f"{key}[{index}]")
    elif hint in _KINDS:
        kinds, name = _KINDS[hint]
        if not isinstance(value, kinds) or (isinstance(value, bool) and hint is not bool):
            yield Fault(key, f"must be {name}", "", str(value))
        else:
            yield from _not_finite(value, key)
    else:
        yield from _not_finite(value, key)


def _not_finite(value: Any, key: str) -> Iterator[Fault]:
    if isinstance(value, float) and not math.isfinite(value):
        yield Fault(key, "must be a finite number", "", str(value))
    elif isinstance(value, Mapping):
        for name, child in value.items():
            yield from _not_finite(child, f"{key}.{name}")
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _not_finite(child, f"{key}[{index}]")
