"""Differences between the configs and the results of runs. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MISSING = "–"
"""Text of a key that a config does not have."""


def flattened(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the full keys of a config with their values; lists are values."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def without_place(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a run without the keys that name its folder."""
    return {key: value for key, value in config.items() if key not in ("folder", "output_root", "resume")}


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the keys that differ, in the order of the configs, with both values as they are written in an override."""
    one, other = dict(flattened(first)), dict(flattened(second))
    return {
        key: (_written(one, key), _written(other, key))
        for key in {**one, **other}
        if _written(one, key) != _written(other, key)
    }


def metrics_of(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a summary's splits by name, such as `val/top1`."""
    splits = ("train/", "val/", "test/")
    return {
        name: float(value)
        for name, value in summary.items()
        if name.startswith(splits) and isinstance(value, int | float) and not isinstance(value, bool)
    }


def _written(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return MISSING
    return written(values[key])


def written(value: Any) -> str:
    """Return a value as it is written in an override."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{written(one)}' for key, one in value.items())}}}"
    return str(value)
