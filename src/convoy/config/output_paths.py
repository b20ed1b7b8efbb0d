"""Paths under which a run writes, and whether they lead out of its folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

_PLACES = ("output_root", "folder", "logger.other", "callback", "data.root")
"""Keys and groups whose values may be paths to write to; data.root is one if torchvision downloads a set to it."""

_BELOW_WORKING_FOLDER = ("output_root", "folder")
"""Keys whose relative paths are not out of the run's folder, since they determine it."""

_PATH_NAME = re.compile(r"(^|_)(dir|path|folder|file|location|root|db)s?$|dir(path|ectory)?$")
_INSIDE = re.compile(r"(file:)?\{run_folder\}(/|$)")
_WEB_ADDRESS = re.compile(r"https?://")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:\S")


def texts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text in plain containers with its full key."""
    if isinstance(node, str):
        yield key, node
    elif isinstance(node, Mapping):
        for name, child in node.items():
            yield from texts(child, f"{key}.{name}" if key else str(name))
    elif isinstance(node, (list, tuple)):
        for index, child in enumerate(node):
            yield from texts(child, f"{key}[{index}]")


def output_texts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts of a config, or of its part at `key`, that may be paths to write to, with their full keys."""
    for full_key, text in texts(node, key):
        is_there = any(full_key == place or full_key.startswith(f"{place}.") for place in _PLACES)
        if is_there and not full_key.endswith("._target_"):
            yield full_key, text


def leads_out(key: str, text: str) -> bool:
    """Return whether a text may be a path out of the run's folder; for output_root and folder, the working folder."""
    if ".." in re.split(r"[/\\]", text):
        return True
    if _INSIDE.match(text):
        return False
    if _WEB_ADDRESS.match(text):
        return False
    if text.startswith(("/", "\\", "~")) or PurePath(text).is_absolute() or _ADDRESS.match(text):
        return True
    is_relative_place = key in _BELOW_WORKING_FOLDER
    name = re.sub(r"\[\d+\]$", "", key).rpartition(".")[2]
    return not is_relative_place and bool(text) and _PATH_NAME.search(name) is not None
