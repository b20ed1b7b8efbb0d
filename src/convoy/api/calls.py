"""Calls of the Python API: one at a time, interruptible, and without a trace in the process of the caller. No torch."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.runtime.stop_signals import StopSignal, raised

_LOCK = threading.RLock()
_CALLS = threading.local()


@contextmanager
def alone() -> Iterator[None]:
    """Run a call while those of other threads wait: random states and torch's settings belong to the process.

    Raises:
        UserError: if a run of this thread makes the call, such as in a callback.
    """
    with _LOCK:
        if getattr(_CALLS, "is_running", False):
            raise UserError(Fault("convoy", "is called by a run of the same thread", "call it after the run"))
        _CALLS.is_running = True
        try:
            yield
        finally:
            _CALLS.is_running = False


@contextmanager
def undisturbed(before_torch: Callable[[], None] = lambda: None, *, collects: bool = True) -> Iterator[None]:
    """Leave no trace in the caller's process but files: memory, random states and settings are as they were.

    In the main thread, a stop signal raises `StopSignal` inside and reaches the caller's handler after the end, where a
    Ctrl-C raises KeyboardInterrupt.

    Args:
        before_torch: sets environment variables that torch reads when it is imported.
        collects: whether memory in reference cycles, as of trainers and optimizers, is freed at once, which takes
            more than half a second.
    """
    stopped = None
    with _kept_environment():
        before_torch()
        try:
            with _kept_logging(), _kept_torch(), raised(exits=False):
                yield
        except StopSignal as stop:
            stopped = stop.number
        finally:
            if collects:
                gc.collect()
            _release_gpu()
    if stopped is not None:
        deliver(stopped)
        raise KeyboardInterrupt(f"stopped by {signal.Signals(stopped).name}")


def deliver(number: int) -> None:
    """Hand a stop signal that was obeyed to the caller's handler, which raises KeyboardInterrupt for Ctrl-C."""
    if threading.current_thread() is threading.main_thread():
        signal.raise_signal(number)


def words_of(overrides: Sequence[str]) -> list[str]:
    """Return the words of a call.

    Raises:
        UserError: if one is not a string.
    """
    for word in overrides:
        if not isinstance(word, str):
            remedy = 'write them one after the other, such as convoy.train("model=vgg16", "data=digits")'
            raise UserError(Fault("overrides", f"must be strings, not {type(word).__name__}", remedy))
    return list(overrides)


def options_of(config_dir: str | Path | None) -> Options:
    """Return the folders of options for the `config_dir` of a call.

    Raises:
        UserError: if there is no such folder.
    """
    if config_dir is None:
        return Options()
    from convoy.config.trust import TRUST

    folder = Path(config_dir)
    if not folder.is_dir():
        remedy = "give a folder with model/, data/, … like conf/"
        raise UserError(Fault("config_dir", "no such folder", remedy, str(config_dir)))
    TRUST.add_folder(folder.absolute())
    return Options(folder.absolute())


@contextmanager
def _kept_environment() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _kept_logging() -> Iterator[None]:
    """Take the caller's handlers off the loggers of the libraries, and put them back."""
    from convoy.records.console import LIBRARIES

    loggers = [logging.getLogger(name) for name in LIBRARIES]
    before = [(logger, logger.handlers, logger.propagate, logger.level) for logger in loggers]
    captures = getattr(logging, "_warnings_showwarning", None) is not None
    for logger in loggers:
        logger.handlers = []
    try:
        yield
    finally:
        for logger, handlers, propagate, level in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)
        logging.captureWarnings(captures)


@contextmanager
def _kept_torch() -> Iterator[None]:
    """Restore the random states of Python, NumPy and torch, and the settings of torch."""
    import random

    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    settings = _torch_settings()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if on_gpus is not None:
            torch.cuda.set_rng_state_all(on_gpus)
        torch.set_num_threads(settings["threads"])
        torch.set_float32_matmul_precision(settings["precision"])
        torch.use_deterministic_algorithms(settings["deterministic"], warn_only=settings["warn_only"])
        torch.set_grad_enabled(settings["grad"])
        for name, value in settings["cudnn"].items():
            setattr(torch.backends.cudnn, name, value)


def _torch_settings() -> dict[str, Any]:
    import torch

    cudnn = torch.backends.cudnn
    return {
        "threads": torch.get_num_threads(),
        "precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "grad": torch.is_grad_enabled(),
        "cudnn": {name: getattr(cudnn, name) for name in ("benchmark", "deterministic", "allow_tf32", "enabled")},
    }


def _release_gpu() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
