"""Output of tables on a terminal, in files and in pipes."""

from __future__ import annotations

import sys

from rich.console import Console, RenderableType

_WIDTH = 250
"""Columns where the output is no terminal, so that tables are not cut."""


def console(*, soft_wrap: bool = False) -> Console:
    """Return a console for standard output, as wide as the terminal.

    Args:
        soft_wrap: whether the terminal wraps long lines, so that their text can be copied.
    """
    width = None if sys.stdout.isatty() else _WIDTH
    return Console(highlight=False, force_jupyter=False, soft_wrap=soft_wrap, width=width)


def printed(part: RenderableType, screen: Console) -> str:
    """Return the text that a console prints, without trailing spaces."""
    with screen.capture() as captured:
        screen.print(part)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
