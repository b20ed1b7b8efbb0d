"""Typed configs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from convoy.api.calls import alone, options_of, words_of

if TYPE_CHECKING:
    from convoy.config.schema import Config


def compose(*overrides: str, config_dir: str | Path | None = None) -> Config:
    """Return the config of a command line, composed and checked without its data.

    Args:
        overrides: words of `convoy train`, such as `"model=vgg16"`.
        config_dir: folder of options, as in `--config-dir`.

    Raises:
        UserError: with every fault of the overrides.
    """
    with alone():
        from convoy.training import preflight

        return preflight.read(words_of(overrides), options_of(config_dir), to_run=False)
