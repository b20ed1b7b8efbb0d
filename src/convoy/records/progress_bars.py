"""Progress bars: on a terminal, and in a notebook."""

from __future__ import annotations

from html import escape
from typing import Any, Protocol

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TextColumn


class ProgressBar(Protocol):
    """Bar that is redrawn by `update` and disappears at the end."""

    def update(self, completed: int, where: str, values: str) -> None:
        """Redraw the bar with the completed steps, the epoch and the metrics."""

    def stop(self) -> None:
        """Remove the bar."""


class TerminalBar:
    """Bar on the last line of a terminal.

    Args:
        console: console of the terminal.
        total: number of steps; None if unknown.
    """

    def __init__(self, console: RichConsole, total: int | None) -> None:
        self._bar = Progress(
            TextColumn("{task.fields[where]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[values]}"),
            console=console,
            transient=True,
            auto_refresh=False,
            expand=True,
        )
        self._task = self._bar.add_task("", total=total, where="starting", values="")
        self._bar.start()

    def update(self, completed: int, where: str, values: str) -> None:
        self._bar.update(self._task, completed=completed, where=where, values=values, refresh=True)

    def stop(self) -> None:
        self._bar.stop()


class NotebookBar:
    """Bar in the output of a notebook's cell, which needs no widgets.

    Args:
        total: number of steps; None if unknown.
    """

    def __init__(self, total: int | None) -> None:
        from IPython.display import display

        self._total = total
        content = self._content(0, "starting", "")
        self._shown: Any = display(content, raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def update(self, completed: int, where: str, values: str) -> None:
        self._shown.update(self._content(completed, where, values), raw=True)

    def stop(self) -> None:
        self._shown.update({"text/html": "", "text/plain": ""}, raw=True)

    def _content(self, completed: int, where: str, values: str) -> dict[str, str]:
        size = "" if self._total is None else f' value="{completed}" max="{self._total}"'
        steps = f"step {completed}" if self._total is None else f"step {completed}/{self._total}"
        return {
            "text/html": f"{escape(where)} <progress{size}></progress> {escape(values)}",
            "text/plain": f"{where}  {steps}  {values}",
        }
