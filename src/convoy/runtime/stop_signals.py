"""Signals that ask a process to stop, as an exception of the main thread. Imports no torch."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Ctrl-C; the end of a job or a service; a closed terminal; Slurm's warning ahead of a time limit."""

SAME_REQUEST_S = 1.0
"""Signals within this time count as one: `timeout`, systemd, a sweep and a terminal may each send two."""


class StopSignal(BaseException):
    """Exception for a signal that asks this process to end.

    Lightning turns a KeyboardInterrupt into exit code 1, so Ctrl-C also raises `StopSignal`.

    Attributes:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"stopped by {signal.Signals(number).name}")

    @property
    def exit_code(self) -> int:
        """Exit code that a shell reports for a process ended by the signal."""
        return 128 + self.number


class _State:
    """Stop signals that this process has received.

    Attributes:
        counted_at: Time of the last signal that counted.
        must_end: True if the next signal ends the process at once.
        exits: False if a signal only raises `StopSignal` and never ends the process.
        is_complete: True if the run ends by itself and the next signal is only noted.
        noted: Number of the signal that was noted; 0 if none.
    """

    counted_at = float("-inf")
    must_end = False
    exits = True
    is_complete = False
    noted = 0


def counts() -> bool:
    """Return True for a new request to stop, and False for a further signal of the last one."""
    now = time.monotonic()
    if now - _State.counted_at < SAME_REQUEST_S:
        return False
    _State.counted_at = now
    return True


def install(handler: Callable[[int, FrameType | None], Any]) -> dict[int, Any]:
    """Install a handler for `SIGNALS` and return the previous handlers by signal; empty outside the main thread.

    SIGHUP stays ignored if it is ignored (`nohup`).
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def receive(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave(terminals)
        handler(number, frame)

    return {number: signal.signal(number, receive) for number in numbers}


def _leave(terminals: Sequence[int]) -> None:
    """Redirect output from closed terminals, on which each write fails."""
    for descriptor in terminals:
        if not os.isatty(descriptor):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def restore(previous: dict[int, Any]) -> None:
    """Install the handlers that `install` returned."""
    for number, handler in previous.items():
        signal.signal(number, handler)


@contextmanager
def raised(*, exits: bool = True) -> Iterator[None]:
    """Raise `StopSignal` in the main thread at the first stop signal.

    Args:
        exits: whether a second one ends the process at once; otherwise it raises again, and so does a signal that
            `complete` has held back, at the end.
    """
    _State.counted_at, _State.must_end, _State.exits = float("-inf"), False, exits
    _State.is_complete, _State.noted = False, 0
    previous = install(_raise)
    try:
        yield
    finally:
        restore(previous)
        _State.exits = True
    if _State.noted and not exits:
        raise StopSignal(_State.noted)


def complete() -> None:
    """Let the next stop signal change nothing: the results are known, and the run ends by itself in seconds.

    A run whose results are written is not stopped, and a Slurm job must not be requeued for it. A later signal ends the
    process at once.
    """
    _State.is_complete = True


def end_at_once() -> None:
    """Let the next stop signal end the process at once, since all files are written and only the cleanup is left."""
    _State.must_end = True


def _raise(number: int, _frame: FrameType | None) -> None:
    if not counts():
        return
    if _State.is_complete and not _State.noted:
        if number != signal.SIGUSR1:
            _State.noted, _State.must_end = number, True
        return
    if _State.must_end and _State.exits:
        if number != signal.SIGUSR1:
            os._exit(128 + number)
        return
    _State.must_end = True
    raise StopSignal(number)
