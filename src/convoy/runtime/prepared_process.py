"""Process that has imported the libraries of a run and is forked for each run of a sweep or a study. Imports no torch.

The imports take five seconds of CPU time, a fork some milliseconds. A run that is forked has the command line, the
variables, the output and the exit code of a new process, and imports the user's modules itself. The prepared process
only forks, and ends with its worker. Where a fork is not safe, it ends at once, and each run is a new process:

- with a GPU, since the settings of its allocator follow from the config of a run and are read when torch is imported;
- with a thread that is left after a fork, since it may hold a lock.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, TextIO

from convoy.runtime.cpu_cores import Imports
from convoy.runtime.garbage_collection import without_collector
from convoy.runtime.lazy_imports import defer_unused
from convoy.runtime.rank_watch import PARENT
from convoy.runtime.stop_signals import SIGNALS

ENTRY = "convoy.commands.main"
"""Module that a process of Convoy runs."""

_MODULES = ("convoy.commands.train", "convoy.training.run")
_MOST_BYTES = 2**17
"""Largest request; the socket refuses a longer one, and the run is a new process."""


class ForkedRun:
    """Run that was forked, with the methods of `subprocess.Popen` that a worker needs.

    Args:
        connection: to the prepared process, which forwards signals and sends the exit code.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send_signal(self, number: int) -> None:
        """Send a signal to the run, unless it has ended."""
        _send(self._connection, bytes([number]))

    def wait(self) -> int | None:
        """Wait for the end of the run and return its exit code, -n if signal n ended it; None if it never began."""
        with self._connection:
            if not _received(self._connection):
                return None
            return int(_received(self._connection) or -signal.SIGKILL)  # a run stops when its parent is killed


class PreparedProcess:
    """Prepared process of a worker: a context manager. The process starts with the first run.

    Args:
        modules: modules of Convoy that the runs import, besides those of every run.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._modules = modules
        self._lock = Lock()
        self._running: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    def __enter__(self) -> PreparedProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self._running is not None:
            process, control = self._running
            control.close()
            process.wait()

    def start(self, words: Sequence[str], environment: Mapping[str, str], files: Sequence[int]) -> ForkedRun | None:
        """Fork a run, and return it; None if a run must be a new process.

        Args:
            words: of its command line.
            environment: variables besides those of this process.
            files: descriptors of its output, of its errors and of a lock that only the run keeps open.
        """
        with self._lock:
            if self._running is None or (self._running[0].poll() or 0) < 0:  # not yet started, or killed
                self._running = _started(self._modules)
            process, control = self._running
        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = {"words": words, "environment": {**environment, PARENT: str(process.pid)}}
        with other:
            try:
                socket.send_fds(control, [json.dumps(request).encode()], [other.fileno(), *files])
            except OSError:  # it has ended
                own.close()
                return None
        return ForkedRun(own)


def _started(modules: Sequence[str]) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a prepared process, and return it with the socket for requests."""
    control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with other:
        command = [sys.executable, "-m", __name__, str(other.fileno()), *modules]
        nowhere = subprocess.DEVNULL  # a library may print while it is imported
        files = [other.fileno()]
        environment = dict(os.environ)  # without what C libraries have set in this process
        return subprocess.Popen(command, env=environment, stdout=nowhere, stderr=nowhere, pass_fds=files), control


def _is_safe() -> bool:
    """Return whether runs may be forked from this process; see the module's docstring."""
    import torch

    pid = os.fork()  # torch may open a GPU to answer, and the BLAS of numpy ends its threads before a fork
    if pid == 0:
        os._exit(int(torch.accelerator.is_available()))
    os.close(os.pidfd_open(pid))  # fails with kernels before 5.3
    return os.waitpid(pid, 0)[1] == 0 and len(list(Path("/proc/self/task").iterdir())) == 1


def _serve(control: socket.socket) -> tuple[dict[str, Any], Sequence[int]]:
    """Fork for each request of the worker; return the request and its files in the forked process.

    The prepared process never returns. It ends with the worker, whose sockets are closed then.
    """
    events = selectors.PollSelector()
    events.register(control, selectors.EVENT_READ)
    while True:
        key = events.select()[0][0]
        if key.fileobj is control:
            message, files, _, _ = socket.recv_fds(control, _MOST_BYTES, 4)
            connection = socket.socket(fileno=files.pop(0)) if message else os._exit(0)
            pid = os.fork()
            if pid == 0:
                for file in [connection, *(registered.fileobj for registered in events.get_map().values())]:
                    _close(file)
                return json.loads(message), files
            for file in files:
                os.close(file)
            _send(connection, b"begun")
            events.register(connection, selectors.EVENT_READ, (pid, connection))
            events.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, connection))
        elif key.fileobj is key.data[1]:
            pid, connection = key.data
            os.kill(pid, (_received(connection) or os._exit(0))[0])
        else:  # a run has ended
            pid, connection = key.data
            _send(connection, str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
            for file in (key.fileobj, connection):
                events.unregister(file)
                _close(file)


def _become(request: Mapping[str, Any], files: Sequence[int]) -> None:
    """Run a command line in this process, as `python -m` does; the lock is left open."""
    for descriptor, file in zip((1, 2), files, strict=False):
        os.dup2(file, descriptor)
        os.close(file)
    sys.stdout, sys.stderr = _opened(1, sys.stdout), _opened(2, sys.stderr)
    os.environ.update(request["environment"])
    sys.argv[1:] = request["words"]
    Imports.are_done = True
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    runpy.run_module(ENTRY, run_name="__main__", alter_sys=True)


def _opened(descriptor: int, before: Any) -> TextIO:
    """Return the stream of a descriptor that was another file when Python opened it."""
    is_by_line = descriptor == 2 or os.isatty(descriptor) or before.write_through  # PYTHONUNBUFFERED
    return open(descriptor, "w", 1 if is_by_line else -1, before.encoding, before.errors, closefd=False)


def _close(file: Any) -> None:
    """Close a socket or a descriptor."""
    if isinstance(file, socket.socket):
        file.close()
    else:
        os.close(file)


def _send(connection: socket.socket, message: bytes) -> None:
    with suppress(OSError):  # the other side has ended
        connection.send(message)


def _received(connection: socket.socket) -> bytes:
    """Return the next message; empty if the other side has ended."""
    with suppress(OSError):
        return connection.recv(16)
    return b""


def main() -> None:
    """Import the libraries of a run, and fork a process for each request of the worker."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the worker forwards those that concern its runs
    defer_unused()
    with without_collector():
        for name in (*_MODULES, *sys.argv[2:]):
            import_module(name)
    gc.freeze()  # a collection in a run would copy each page with objects of the imports
    if _is_safe():
        _become(*_serve(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
