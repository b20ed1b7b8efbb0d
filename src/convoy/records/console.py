"""Output of a run on the terminal and in run.log. Messages of the libraries are in debug.log."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

from rich.console import Console as RichConsole
from rich.table import Table

from convoy.runs.layout import RunFolder

LIBRARIES = (
    "pytorch_lightning",
    "lightning_fabric",
    "lightning.pytorch",
    "py.warnings",
    "torch",
    "wandb",
    "timm",
    "torchvision",
    "tensorboard",
    "mlflow",
    "comet_ml",
    "matplotlib",
    "PIL",
    "convoy.debug",
)
"""Loggers whose messages are in debug.log."""


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
        self._log_file: _LogFile | None = None

    @property
    def log_error(self) -> OSError | None:
        """Last failure to write run.log; None if there was none."""
        return self._log_file.error if self._log_file else None

    @property
    def is_live(self) -> bool:
        """Whether the terminal can redraw a progress bar."""
        return self._speaking and self.console.is_terminal and not self.console.is_dumb_terminal

    @property
    def is_notebook(self) -> bool:
        """Whether the output is that of a notebook's cell."""
        return self._speaking and self.console.is_jupyter

    def say(self, text: str = "", style: str | None = None) -> None:
        """Print one or several lines to the terminal and the log."""
        # Lines are not wrapped: a log file has no width, and commands are copied from the terminal.
        with _naming_the_terminal():
            self.console.print(text, style=style, markup=False, soft_wrap=True)
        self.note(text)

    def say_or_warn(self, text: str) -> None:
        """Print one or several lines, on standard error if standard output fails or on a rank that is not the first."""
        if self._speaking:
            try:
                self.say(text, style="bold red")
                return
            except OSError:
                # What it could not write is not tried again at the interpreter's end, which would change the exit code.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(text, file=sys.stderr)

    def note(self, text: str) -> None:
        """Write one or several lines to the log only."""
        for line in text.splitlines():
            self._log.info(line)

    def show(self, table: Table) -> None:
        """Print a table to the terminal and, as plain text 100 columns wide, to the log."""
        with _naming_the_terminal():
            self.console.print(table)
        # In a notebook, rich would show the text in the cell instead of writing it.
        plain = RichConsole(file=StringIO(), width=100, color_system=None, force_jupyter=False)
        plain.print(table)
        for line in plain.file.getvalue().splitlines():  # type: ignore[attr-defined]
            self._log.info(line.rstrip())

    def log_to(self, path: Path | None) -> None:
        """Start writing to run.log, and redirect the libraries' messages from the terminal to debug.log beside it.

        Args:
            path: Path of run.log; None writes no log and discards the libraries' messages.
        """
        run: logging.Handler = logging.NullHandler()
        debug: logging.Handler = logging.NullHandler()
        if path is not None and self._speaking:
            run = self._log_file = _file(path, "")
            debug = _file(RunFolder(path.parent).debug_log, "%(name)s: ")
        logging.captureWarnings(True)
        self._replace_handlers(self._log, run)
        for name in LIBRARIES:
            logger = logging.getLogger(name)
            self._replace_handlers(logger, debug)
            logger.propagate = False

    def close(self) -> None:
        """Close the logs and print the libraries' messages to the terminal again."""
        for name in (self._log.name, *LIBRARIES):
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


@contextmanager
def _naming_the_terminal() -> Iterator[None]:
    """Name standard output in the error of a print, which may be redirected to a full disk."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from error


class _LogFile(logging.FileHandler):
    """Log file whose faults, such as a full disk, are not printed as stack traces.

    Attributes:
        error: last failure; the lines that there was no room for are lost.
    """

    error: OSError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            super().emit(record)
        except OSError as error:  # from opening the file
            self.error = error

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Remember the failure of a write."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            self.error = error

    def close(self) -> None:
        """Close the file, whether or not its last lines can be written."""
        with contextlib.suppress(OSError):
            super().close()


def _file(path: Path, source: str) -> _LogFile:
    """Return the handler of a log file that is created with its first line.

    Args:
        path: Path of the file.
        source: Format of the part between level and message.
    """
    handler = _LogFile(path, encoding="utf-8", errors="backslashreplace", delay=True)
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname).1s {source}%(message)s", "%Y-%m-%d %H:%M:%S"))
    return handler
