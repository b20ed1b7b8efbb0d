"""Isolation of loggers from the run: their calls run in a thread, and a logger that fails is dropped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from threading import Thread
from typing import Any

from pytorch_lightning.loggers import Logger

FINISH_S = 20.0
"""Longest wait at the end of a run for the rest of a logger's calls."""

_FAILURES = (Exception, SystemExit)


class IsolatedLogger(Logger):
    """Lightning logger that passes its calls on to another one in a thread, and drops it once a call fails.

    Lightning doesn't see the other logger, since it asks for its `experiment` at the start, which connects to a server.

    Args:
        logger: The other logger.
        name: Name in messages.
        notify: Function that prints a line.
    """

    def __init__(self, logger: Logger, name: str, notify: Callable[[str], None]) -> None:
        super().__init__()
        self.logger = logger
        self._name, self._notify = name, notify
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._is_dropped = False
        self._thread = Thread(target=self._work, name=f"convoy-{name}", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> None:
        return None

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = dict(metrics)
        self._queue(lambda: self.logger.log_metrics(row, step))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self._queue(lambda: self.logger.log_hyperparams(params, *args, **kwargs))

    def save(self) -> None:
        self._queue(self.logger.save)

    def finalize(self, status: str) -> None:
        self._queue(lambda: self.logger.finalize(status))

    def log_graph(self, *args: Any, **kwargs: Any) -> None:
        """Pass the call on at once: it reads the model."""
        self._try(lambda: self.logger.log_graph(*args, **kwargs))

    def finish(self) -> None:
        """Wait until all calls are done, or drop the logger."""
        self._calls.put(None)
        self._thread.join(FINISH_S)
        if self._thread.is_alive():
            self._drop(f"it didn't finish within {FINISH_S:.0f} s")

    def _queue(self, call: Callable[[], Any]) -> None:
        if not self._is_dropped:
            self._calls.put(call)

    def _work(self) -> None:
        for call in iter(self._calls.get, None):
            self._try(call)

    def _try(self, call: Callable[[], Any]) -> None:
        if self._is_dropped:
            return
        try:
            call()
        except _FAILURES as error:
            logging.getLogger("convoy.debug").warning("%s failed", self._name, exc_info=True)
            self._drop(" ".join(str(error).split())[:200] or type(error).__name__)

    def _drop(self, reason: str) -> None:
        if not self._is_dropped:
            self._is_dropped = True
            self._notify(f"{self._name} is dropped ({reason}); metrics.csv has all rows")
