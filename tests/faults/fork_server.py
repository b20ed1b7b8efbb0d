"""Process that has imported everything and runs each command in a fork, so that a run starts in a tenth of the time.

    python -m tests.faults.fork_server

It reads one command per line as JSON and answers with one line:

    {"words": [...], "folder": "...", "environment": {}, "die_at": 7, "kill_after_s": 0.8, "links": true}
    {"code": -9, "operations": 41, "out": "..."}

The fault is injected into the child: it kills itself before its file operation `die_at`, counted from 1, or is killed
after `kill_after_s` seconds; without `links` the file systems have no hard links.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_CHANGES = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate", "os.symlink", "fsync")


class Operations:
    """Counter of the operations that change a file below a folder. Kills the process before one of them.

    Those are: opening for writing, renaming, removing, linking, making a folder, fsync, ftruncate, and within the file
    of a checkpoint every write whose number is a power of two.

    Args:
        folder: below which files count.
        die_at: number of the operation, counted from 1, or its name; 0: none.
    """

    def __init__(self, folder: Path, die_at: int | str) -> None:
        self._folder = str(folder.resolve())
        self._die_at = die_at
        self.count = 0
        self.names: list[str] = []

    def install(self) -> None:
        """Start counting in this process, for good."""
        from convoy.training import checkpoint_files

        sys.addaudithook(self._see)
        synchronize = os.fsync

        def fsync(descriptor: int) -> None:
            self._see("fsync", (descriptor,))
            synchronize(descriptor)

        os.fsync = fsync
        whole, written = checkpoint_files._Recorder.write, {}

        def write(recorder: Any, content: Any) -> int:
            number = written[id(recorder)] = written.get(id(recorder), 0) + 1
            if number & (number - 1) == 0:
                self._next("write", "checkpoint")
            return whole(recorder, content)

        checkpoint_files._Recorder.write = write  # type: ignore[method-assign]

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, str) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in _CHANGES:
            path = arguments[0]
            if isinstance(path, int):
                path = os.readlink(f"/proc/self/fd/{path}")  # noqa: PTH115
        else:
            return
        if os.path.abspath(os.fspath(path)).startswith(self._folder):  # noqa: PTH100
            self._next(event, path)

    def _next(self, event: str, path: str) -> None:
        self.count += 1
        self.names.append(f"{event} {Path(path).name}")
        if self._die_at in (self.count, self.names[-1]):
            os.kill(os.getpid(), signal.SIGKILL)


def serve() -> None:
    """Answer commands until standard input ends."""
    import gc
    import warnings

    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    import torch.distributed.algorithms.ddp_comm_hooks

    gc.collect()
    gc.freeze()
    print(json.dumps({"threads": len(os.listdir("/proc/self/task"))}), flush=True)  # noqa: PTH208
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _run(asked: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as counted:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(out.fileno(), 2)
            code = 99
            try:
                code = _child(asked, counted.fileno())
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                with contextlib.suppress(OSError):
                    sys.stdout.flush()
                os._exit(code)
        if asked.get("kill_after_s") is not None:
            time.sleep(asked["kill_after_s"])
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        counted.seek(0)
        names = json.loads(counted.read() or b"[]")
        return {"code": code, "operations": names, "out": out.read().decode(errors="replace")}


def _child(asked: dict[str, Any], counted: int) -> int:
    from convoy.commands.main import main

    os.chdir(asked["folder"])
    os.environ.update(asked.get("environment", {}))
    tempfile.tempdir = None
    if not asked.get("links", True):

        def link(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        os.link = link
    operations = Operations(Path(asked["folder"]), asked.get("die_at", 0))
    operations.install()
    code = main(asked["words"])
    with open(counted, "w", closefd=False) as file:
        json.dump(operations.names, file)
    return code


if __name__ == "__main__":
    serve()
