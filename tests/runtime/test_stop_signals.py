"""Signals once a run's results are complete, in this process."""

from __future__ import annotations

import os
import signal

import pytest

from convoy.runtime import stop_signals
from convoy.runtime.stop_signals import StopSignal, complete, end_at_once, raised


class ProcessEndError(Exception):
    """End of the process, which `os._exit` is replaced by."""


def _exit(code: int) -> None:
    raise ProcessEndError(code)


@pytest.fixture(autouse=True)
def _each_signal_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_signals, "SAME_REQUEST_S", 0.0)
    monkeypatch.setattr(os, "_exit", _exit)


def test_the_first_signal_after_the_results_changes_nothing_and_the_second_ends_the_process() -> None:
    with raised():
        complete()
        end_at_once()
        signal.raise_signal(signal.SIGUSR1)  # of a time limit, which another signal follows
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(ProcessEndError, match="143"):
            signal.raise_signal(signal.SIGTERM)


def test_the_caller_of_the_api_receives_the_signal_when_the_run_has_ended() -> None:
    """A Ctrl-C at the end of one of several runs must not start the next."""
    ended = []
    with pytest.raises(StopSignal, match="SIGINT"):
        _run_as_the_api(ended)
    assert ended == [True]


def _run_as_the_api(ended: list[bool]) -> None:
    with raised(exits=False):
        complete()
        signal.raise_signal(signal.SIGINT)
        ended.append(True)


def test_the_next_run_of_the_process_can_be_stopped() -> None:
    with raised():
        complete()
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(StopSignal), raised():
        signal.raise_signal(signal.SIGTERM)
