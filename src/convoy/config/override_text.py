"""Parsing of one override, including values with characters that Hydra's grammar can't parse."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.errors import HydraException

from convoy.config.schema import GROUPS, OPEN_GROUPS, Config

ZIP = "zip"
"""Tag of the values of `zip(a,b)`, which several keys take in step."""

_KEY = re.compile(r"\+{0,2}[\w@][\w./@-]*")
_OPENING = ("[", "{", "'", '"', "$")
"""First characters of lists, mappings, quoted text and interpolations."""


def parse_override(text: str) -> Override:
    """Parse an override with Hydra's grammar.

    If the key is text or an argument of a group with a `_target_`, a value that the grammar can't parse is used as
    typed: `model.pretrained=epoch=3.ckpt`, `data.root=/data/été [1]`. The value of a text key that looks like a number
    is also used as typed: `name=1e5`.

    Raises:
        HydraException: if the grammar can't parse the text.
    """
    key, sign, value = text.partition("=")
    name = key.lstrip("+")
    try:
        override = _parser().parse_override(text)
    except HydraException:
        in_open_group = name.split(".")[0] in OPEN_GROUPS and not value.startswith(_OPENING)
        if sign and _KEY.fullmatch(key) and (name in text_keys() or in_open_group):
            return _as_typed(text, key, value)
        raise
    if name in text_keys() and not override.is_sweep_override() and isinstance(override.value(), (bool, int, float)):
        return _as_typed(text, key, value)
    return override


@cache
def _parser() -> OverridesParser:
    parser = OverridesParser.create()
    parser.functions.register(ZIP, lambda *values: _zip(values))  # Hydra can't check postponed annotations
    return parser


def _zip(values: tuple[Any, ...]) -> ChoiceSweep | RangeSweep:
    """Return the values of a key that several keys take in step: `model=zip(a,b) optimizer.lr=zip(0.1,0.01)`."""
    if not values:
        raise ValueError("zip() needs values")
    is_range = len(values) == 1 and isinstance(values[0], RangeSweep)
    sweep: ChoiceSweep | RangeSweep = values[0] if is_range else ChoiceSweep(list=list(values))
    sweep.tags = {ZIP}
    return sweep


@cache
def text_keys() -> frozenset[str]:
    """Return the keys with text values, including the groups."""
    return frozenset((*GROUPS, *_text_keys(Config, "")))


def _text_keys(kind: type[Any], prefix: str) -> Iterator[str]:
    for name, hint in get_type_hints(kind).items():
        if get_origin(hint) in (Union, types.UnionType):
            hint = next(one for one in get_args(hint) if one is not type(None))
        if hint is str:
            yield prefix + name
        elif is_dataclass(hint):
            yield from _text_keys(hint, f"{prefix}{name}.")  # type: ignore[arg-type]


def _as_typed(text: str, key: str, value: str) -> Override:
    # In quoted text, a backslash escapes only a quote or the backslashes before one.
    quoted = re.sub(r"(\\*)'", r"\1\1\\'", value)
    quoted = re.sub(r"(\\+)$", r"\1\1", quoted)
    override = _parser().parse_override(f"{key}='{quoted}'")
    override.input_line = text
    return override
