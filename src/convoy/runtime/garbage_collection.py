"""When Python's cyclic garbage collector runs. This module does not import torch."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_USUAL = gc.get_threshold()
_RARE = (50_000, 20, 20)


def collect_rarely() -> None:
    """Collect after more new objects: imports make 400,000 that stay, which the collector would look through often."""
    gc.set_threshold(*_RARE)


def collect_as_usual() -> None:
    """After `collect_rarely`, leave the objects that exist now out of collections, and collect as often as usual.

    In training, garbage may hold the memory of whole batches. Does nothing in a process that is not a command's own.
    """
    if gc.get_threshold()[0] == _RARE[0]:
        gc.freeze()
        gc.set_threshold(*_USUAL)


@contextmanager
def without_collector() -> Iterator[None]:
    """Disable the cyclic garbage collector inside the context, for speed and reproducible memory use."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
