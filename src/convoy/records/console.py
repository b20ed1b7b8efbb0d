"""What a run says: on the terminal, and in run.log with the libraries' own messages."""

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
    """Says things once on the terminal and once in the log. Silent on all ranks but the first.

    Args:
        speaking: whether this process is the one that speaks.
    """

    def __init__(self, *, speaking: bool = True) -> None:
        self.console = RichConsole(quiet=not speaking, highlight=False)
        self._log = logging.getLogger("convoy.run")
        self._log.setLevel(logging.INFO)
        self._log.propagate = False
        self._speaking = speaking

    @property
    def is_live(self) -> bool:
        """Whether a progress bar can be drawn and redrawn."""
        return self._speaking and self.console.is_terminal and not self.console.is_dumb_terminal

    def say(self, text: str = "", style: str | None = None) -> None:
        """One line or several, to the terminal and the log."""
        # Lines stay whole: a log file has no width, and a command is copied from a terminal as it was written.
        self.console.print(text, style=style, markup=False, soft_wrap=True)
        self.note(text)

    def note(self, text: str) -> None:
        """To the log alone."""
        for line in text.splitlines():
            self._log.info(line)

    def show(self, table: Table) -> None:
        """A table, to the terminal and, as plain text, to the log."""
        self.console.print(table)
        plain = RichConsole(file=StringIO(), width=100, color_system=None)
        plain.print(table)
        for line in plain.file.getvalue().splitlines():  # type: ignore[attr-defined]
            self._log.info(line.rstrip())

    def log_to(self, path: Path | None) -> None:
        """From now on write to run.log too, and there what the libraries say, instead of to the terminal.

        None: write nowhere, and keep the libraries quiet.
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
        """Close run.log and give the libraries their terminal back."""
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
