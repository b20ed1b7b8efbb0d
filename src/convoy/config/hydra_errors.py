"""Errors of Hydra and OmegaConf, reworded in the terms of the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from convoy.config.faults import Fault, closest, did_you_mean
from convoy.config.foreign_words import advice, translated
from convoy.config.schema import GROUPS, OPEN_GROUPS


def written(override: Override) -> str:
    """Return the value of an override as it was typed."""
    return str(override.input_line).partition("=")[2]


def known_keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the full keys of a config, including its groups."""
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
        for name in node:
            full = prefix + str(name)
            yield full
            yield from known_keys(node._get_node(name), f"{full}.")


def value_fault(key: str, override: Override, error: Exception) -> Fault:
    config = getattr(error, "parent_node", None)
    root = config._get_root() if isinstance(config, DictConfig) else None
    names = list(known_keys(root)) if isinstance(root, DictConfig) else []
    rule, remedy = reworded(error, key, names, written(override))
    return Fault(key, rule, remedy, written(override))


def reworded(error: BaseException, key: str, names: Sequence[str], value: str = "…") -> tuple[str, str]:
    """Return rule and remedy for an error of Hydra or OmegaConf, without their hints (`+key` hides typos).

    Args:
        error: error raised for the key.
        key: key as typed.
        names: known keys.
        value: value as typed.
    """
    text = first_line(error)
    converted = re.match(r"Value '(.*)' of type '.*' could not be converted to (\w+)", text)
    if converted:
        words = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
        return f"must be {words.get(converted[2], converted[2].lower())}", ""
    if "is not a valid bool" in text:
        return "must be true or false", ""
    if "not in '" in text or "not in struct" in text or "Could not override" in text:
        group, dot, rest = key.partition(".")
        known = translated(key)
        if known is not None and known != key and known in (*names, *GROUPS):
            return "no such key", f"write {known}={value}"
        if (remedy := advice(key)) is not None:
            return "no such key", remedy
        if group in GROUPS and dot:
            # Compared without the group's name, which would make all keys of the group similar.
            names_in_group = [name.partition(".")[2] for name in names if name.startswith(f"{group}.")]
            near = closest(rest, names_in_group)
            remedy = f"did you mean {group}.{near}?" if near else ""
        else:
            remedy = did_you_mean(key, [*GROUPS, *names])
        if not remedy and group in GROUPS:
            remedy = f"see convoy train --help {group}"
        if group in OPEN_GROUPS and not remedy.startswith("did"):
            remedy = f"write +{key}=… if it is an argument of the {group}"
        return "no such key", remedy or "see convoy train --help"
    if "is not a ListConfig" in text:
        return "must be a list", f"write {key}=[…]"
    if "Unexpected type annotation" in text or "is not a subclass" in text or "Cannot assign" in text:
        return "has the wrong type", f"see convoy train --help {key.split('.')[0]}"
    if "field" in text and "is not Optional" in text:
        return "can't be null", ""
    return text, ""


def first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
