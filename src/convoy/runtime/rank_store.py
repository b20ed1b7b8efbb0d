"""Exchange of short texts between ranks through the process group's store, on the CPU and without a collective."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

_LOOK_EVERY_S, _WAIT_S, _PATIENCE_S = 0.1, 0.002, 30.0
_START_S = 1800.0
"""Longest time from the start of one rank to that of another."""


def from_first_rank(text: str | None) -> str:
    """Return a text of the first rank, in ranks that a launcher has started (`is_launched`).

    Unlike a broadcast it needs no process group, whose address it uses. torchrun holds the store there; with another
    launcher the first rank does, until all ranks have read the text.

    Args:
        text: The text in the first rank; None in the others, which wait for it.

    Raises:
        RuntimeError: the process that holds the store has ended.
    """
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    is_master = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=is_master,
        multi_tenant=True,  # the process group opens it again
        timeout=timedelta(seconds=_START_S),
    )
    start = f"convoy/start-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    if text is not None:
        store.set(f"{start}/text", text)
    _wait_for(store, [f"{start}/text"])
    found = str(store.get(f"{start}/text").decode())
    store.set(f"{start}/{rank}", "")
    if is_master:
        _wait_for(store, [f"{start}/{other}" for other in range(world_size)])
    return found


class RankStore(pl.Callback):
    """Lightning callback that opens a separate connection to the process group's store.

    The group's own connection is busy while the group waits. The keys have a prefix of this start, since torchrun's
    store outlives it. Must be the first callback. With one rank nothing is opened.
    """

    def __init__(self) -> None:
        self._store: Any = None
        self._watchers: list[Callable[[], None]] = []
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size > 1 and self._store is None:
            self._open(trainer.strategy.broadcast(uuid.uuid4().hex))

    def _open(self, prefix: str) -> None:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(host, port, is_master=False, timeout=timedelta(seconds=_PATIENCE_S))
        self._store = PrefixStore(f"convoy/{prefix}", store)
        self._thread = threading.Thread(target=self._watch, name="convoy-rank-store", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """True from the start of training on if there are several ranks."""
        return self._store is not None

    def add_watcher(self, look: Callable[[], None]) -> None:
        """Call a function several times a second from a thread, also while the main thread is in a collective."""
        self._watchers.append(look)

    def write(self, key: str, value: str) -> None:
        """Set a key.

        Raises:
            RuntimeError: the process that holds the store has ended. The other methods raise it too.
        """
        self._store.set(key, value)

    def read(self, key: str) -> str | None:
        """Return the value of a key; None if it is not set. Does not wait."""
        return str(self._store.get(key).decode()) if self._store.check([key]) else None

    def add(self, key: str, number: int) -> int:
        """Add to a counter and return its new value."""
        return int(self._store.add(key, number))

    def remove(self, key: str) -> None:
        """Remove a key."""
        self._store.delete_key(key)

    def collect(self, key: str, world_size: int) -> list[str]:
        """Wait until all ranks have set `<key>/<rank>`, and return the values by rank."""
        keys = [f"{key}/{rank}" for rank in range(world_size)]
        _wait_for(self._store, keys)
        return [str(self._store.get(each).decode()) for each in keys]

    def stop(self) -> None:
        """Stop watching: the run is over, and the process group's store will be gone soon.

        The thread is waited for: Python ends a thread that is in the store's C++ code at its own end with SIGABRT.
        """
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        with contextlib.suppress(RuntimeError):  # the first rank is gone: the main thread learns of it too
            while not self._over.wait(_LOOK_EVERY_S):
                for look in self._watchers:
                    look()


def _wait_for(store: Any, keys: list[str]) -> None:
    """Wait until all keys are set, in Python, so that a signal's handler runs."""
    while not store.check(keys):
        time.sleep(_WAIT_S)
