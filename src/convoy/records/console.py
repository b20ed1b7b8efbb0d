"""Output of a run on the terminal and in run.log, which also gets the messages of the libraries."""

from __future__ import annotations

import logging
from io import StringIO
from pathlib import Path

from rich.console import Console as RichConsole
from rich.table import Table

_LIBRARIES = (
    "pytorch_lightning",
    "lightning_fabric",
    "lightning.pytorch",
    "py.warnings",
    "torch",
    "wandb",
    "timm",
)


class Console:
    """Writer to the terminal and to run.log. It writes nothing on ranks other than the first.

    Args:
        speaking: True on the first rank.
    """

    def __init__(self, *, speaking: bool = True) -> None:
        self.console = RichConsole(quiet=not speaking, highlight=False)
        self._log = logging.getLogger("convoy.run")
        self._log.setLevel(logging.INFO)
        self._log.propagate = False
        self._speaking = speaking

    @property
    def is_live(self) -> bool:
        """Whether the terminal can redraw a progress bar."""
        return self._speaking and self.console.is_terminal and not self.console.is_dumb_terminal

    def say(self, text: str = "", style: str | None = None) -> None:
        """Print one or several lines to the terminal and the log."""
        # Lines are not wrapped: a log file has no width, and commands are copied from the terminal.
        self.console.print(text, style=style, markup=False, soft_wrap=True)
        self.note(text)

    def note(self, text: str) -> None:
        """Write one or several lines to the log only."""
        for line in text.splitlines():
            self._log.info(line)

    def show(self, table: Table) -> None:
        """Print a table to the terminal and, as plain text 100 columns wide, to the log."""
        self.console.print(table)
        plain = RichConsole(file=StringIO(), width=100, color_system=None)
        plain.print(table)
        for line in plain.file.getvalue().splitlines():  # type: ignore[attr-defined]
            self._log.info(line.rstrip())

    def log_to(self, path: Path | None) -> None:
        """Start writing to run.log, and redirect the libraries' messages from the terminal to it.

        Args:
            path: Path of run.log; None writes no log and discards the libraries' messages.
        """
        handler: logging.Handler = logging.NullHandler()
        if path is not None and self._speaking:
            handler = logging.FileHandler(path, encoding="utf-8")
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%Y-%m-%d %H:%M:%S"))
        logging.captureWarnings(True)
        self._replace_handlers(self._log, handler)
        for name in _LIBRARIES:
            logger = logging.getLogger(name)
            self._replace_handlers(logger, handler)
            logger.propagate = False

    def close(self) -> None:
        """Close run.log and print the libraries' messages to the terminal again."""
        for name in (self._log.name, *_LIBRARIES):
            logger = logging.getLogger(name)
            self._replace_handlers(logger, None)
            logger.propagate = name != self._log.name
        logging.captureWarnings(False)

    @staticmethod
    def _replace_handlers(logger: logging.Logger, handler: logging.Handler | None) -> None:
        for old in list(logger.handlers):
            logger.removeHandler(old)
            if isinstance(old, logging.FileHandler):
                old.close()
        if handler is not None:
            logger.addHandler(handler)
