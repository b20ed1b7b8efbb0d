"""Errors of Hydra and OmegaConf, reworded in the terms of the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from convoy.config.faults import Fault, closest, did_you_mean
from convoy.config.foreign_words import advice, assignment, translated
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


def takes_new_keys(config: DictConfig, key: str) -> bool:
    """Return whether a key can be added to a config: to a group with a `_target_`, or a mapping without a schema."""
    group, *rest = key.split(".")
    if group in OPEN_GROUPS:
        return bool(rest)
    node: Any = config
    for name in [group, *rest][:-1]:
        is_group = isinstance(node, DictConfig) and not node._is_none()
        node = node._get_node(name, validate_access=False) if is_group else None
    is_mapping = isinstance(node, DictConfig) and not node._is_none()
    return is_mapping and not is_dataclass(node._metadata.object_type)


def near_key(key: str, names: Sequence[str]) -> str:
    """Return a remedy for a key that does not exist: the nearest one, or the help of its group."""
    group, dot, rest = key.partition(".")
    if group not in GROUPS or not dot:
        return did_you_mean(key, [*GROUPS, *names], "see convoy train --help")
    # Compared without the group's name, which would make all keys of the group similar.
    in_group = [name.partition(".")[2] for name in names if name.startswith(f"{group}.")]
    near = closest(rest, [name for name in in_group if not rest.startswith(f"{name}.")])
    return f"did you mean {group}.{near}?" if near else f"see convoy train --help {group}"


def value_fault(key: str, override: Override, error: Exception) -> Fault:
    config = getattr(error, "parent_node", None)
    root = config._get_root() if isinstance(config, DictConfig) else None
    names = list(known_keys(root)) if isinstance(root, DictConfig) else []
    shown: str | None = written(override)
    below = str(getattr(error, "full_key", None))
    if below.startswith(f"{key}."):  # a key of a mapping that was given as a whole
        found = re.match(r"Value '(.*)' of type", first_line(error))
        value = found[1] if found else None
        key, shown = below, value.lower() if value in ("True", "False") else value
    is_open = isinstance(root, DictConfig) and takes_new_keys(root, key)
    rule, remedy = reworded(error, key, names, shown or "…", is_open=is_open)
    return Fault(key, rule, remedy, shown)


def reworded(
    error: BaseException, key: str, names: Sequence[str], value: str = "…", *, is_open: bool = False
) -> tuple[str, str]:
    """Return rule and remedy for an error of Hydra or OmegaConf, without their hints (`+key` hides typos).

    Args:
        error: error raised for the key.
        key: key as typed.
        names: known keys.
        value: value as typed.
        is_open: whether the key could be added (`takes_new_keys`).
    """
    text = first_line(error)
    converted = re.match(r"Value '(.*)' of type '.*' could not be converted to (\w+)", text)
    if converted:
        words = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
        return f"must be {words.get(converted[2], converted[2].lower())}", ""
    if "is not a valid bool" in text:
        return "must be true or false", ""
    if "not in '" in text or "not in struct" in text or "Could not override" in text:
        group = key.partition(".")[0]
        known = translated(key)
        if known is not None and known != key and known in (*names, *GROUPS):
            return "no such key", f"write {assignment(known, str(value))}"
        if (remedy := advice(key)) is not None:
            return "no such key", remedy
        remedy = near_key(key, names)
        parent = key.rpartition(".")[0]
        if is_open and not remedy.startswith(f"did you mean {parent}."):
            owner = group if group in OPEN_GROUPS else f"class of {parent}"
            remedy = f"write +{key}=… if it is an argument of the {owner}"
        return "no such key", remedy
    if "is not a ListConfig" in text:
        return "must be a list", f"write {key}=[…]"
    if "Unexpected type annotation" in text or "is not a subclass" in text or "Cannot assign" in text:
        return "has the wrong type", f"see convoy train --help {key.split('.')[0]}"
    if "field" in text and "is not Optional" in text:
        return "can't be null", ""
    return text, ""


def first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
