"""Processes that train the runs of a sweep or a study, several at a time. Imports no torch."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import IO

from convoy.config.options import Options
from convoy.runs.layout import RunFolder
from convoy.runtime import stop_signals
from convoy.runtime.cpu_cores import usable_cores
from convoy.runtime.prepared_process import ENTRY, ForkedRun, PreparedProcess
from convoy.runtime.rank_watch import PARENT

MOST_DEATHS = 4
"""Times that a run's process is killed until the run counts as failed."""


class ChildRuns:
    """Workers, each of which trains one run at a time in a process, and forwards stop signals to it.

    The processes share the cores and the GPUs of this machine.

    Args:
        options: folders of the options.
        workers: number of runs at a time.
        modules: modules of Convoy that the runs import, besides those of every run.

    Attributes:
        received: first stop signal; 0 if none.
    """

    def __init__(self, options: Options, workers: int, modules: Sequence[str] = ()) -> None:
        self._flags = ["--config-dir", str(options.folder)] if options.folder else []
        self.workers, self._modules = workers, modules
        self.received = 0
        self._stop = Event()
        self._processes: set[subprocess.Popen[bytes] | ForkedRun] = set()
        self._prepared: PreparedProcess | None = None

    @property
    def is_stopped(self) -> bool:
        """Whether no further run is started."""
        return self._stop.is_set()

    def work(self, worker: Callable[[int], None]) -> None:
        """Call a function with the number of each worker, all at the same time, and forward stop signals meanwhile."""
        previous = stop_signals.install(lambda number, _: self.stop(number))
        try:
            with PreparedProcess(self._modules) as prepared, ThreadPoolExecutor(self.workers) as pool:
                self._prepared = prepared if sys.platform == "linux" and not _gpus() else None
                for future in [pool.submit(worker, index) for index in range(self.workers)]:
                    future.result()
        finally:
            self._prepared = None
            stop_signals.restore(previous)

    def train(
        self, words: Sequence[str], worker: int, lock: IO[str], environment: Mapping[str, str], log: Path | None = None
    ) -> int:
        """Train a run and return the exit code of its process; 128 + n if signal n ended it.

        Args:
            words: of its command line.
            worker: number of the worker.
            lock: file that the process keeps locked, also if this process is killed.
            environment: variables of the process.
            log: file for its output; None for that of this process.
        """
        words = ["train", *self._flags, *words]
        added = {**environment, **_share(worker, self.workers)}
        with (log or Path(os.devnull)).open("ab") as file:
            files = (file.fileno(), file.fileno(), lock.fileno()) if log else (1, 2, lock.fileno())
            forked = self._prepared.start(words, added, files) if self._prepared else None
            code = self._wait(forked) if forked else None
            if code is None:
                command = [sys.executable, "-m", ENTRY, *words]
                variables, output = {**os.environ, **added, PARENT: str(os.getpid())}, file if log else None
                process = subprocess.Popen(
                    command, env=variables, stdout=output, stderr=output, pass_fds=[lock.fileno()]
                )
                code = self._wait(process)
        assert code is not None
        return 128 - code if code < 0 else code

    def _wait(self, process: subprocess.Popen[bytes] | ForkedRun) -> int | None:
        """Wait for the end of a process, to which stop signals are forwarded meanwhile, and return its exit code."""
        self._processes.add(process)
        if self.received:
            process.send_signal(self.received)
        try:
            return process.wait()
        finally:
            self._processes.discard(process)

    def stop(self, number: int = 0) -> None:
        """Start no further run, and forward a signal to the processes."""
        self.received = self.received or number
        self._stop.set()
        for process in list(self._processes) if number else ():
            process.send_signal(number)

    def wait(self, seconds: float) -> None:
        """Wait for a stop signal."""
        self._stop.wait(seconds)

    def threads(self) -> list[str]:
        """Return the CPU threads of a run as an override, so that runs at the same time don't share a core."""
        if self.workers == 1:
            return []
        return [f"hardware.cpu_threads={max(1, usable_cores() // self.workers)}"]


def words_of(run: RunFolder, overrides: Sequence[str]) -> list[str]:
    """Return the words that resume a run, or start it (again) if it has no checkpoint.

    The targets are named again, since a saved config is data, which can't name the user's own.

    Args:
        run: folder of the run.
        overrides: of the run.
    """
    folder = json.dumps(str(run.path))
    if run.last.is_file():
        return [f"resume={folder}", *(word.lstrip("+") for word in overrides if "_target_" in word)]
    shutil.rmtree(run.path, ignore_errors=True)  # of a process that died before its first checkpoint
    return [*overrides, f"folder={folder}"]


def last_line(log: Path, code: int) -> str:
    """Return the last line of a run's output, or its exit code if there is none."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return next((line.strip() for line in reversed(text.split("\n")) if line.strip()), f"exit code {code}")


def try_lock(path: Path) -> IO[str] | None:
    """Return a locked file; None if another process, or a run that it started, holds the lock.

    The kernel releases the lock when the file is closed in all processes that hold it, also if they are killed.
    """
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _share(worker: int, workers: int) -> Mapping[str, str]:
    """Return the GPUs of a worker as environment variables, so that runs at the same time don't share one."""
    devices = _gpus()
    if workers == 1 or not devices:
        return {}
    count = max(1, len(devices) // workers)
    return {"CUDA_VISIBLE_DEVICES": ",".join(devices[worker * count % len(devices) :][:count])}


def _gpus() -> list[str]:
    """Return the names of the NVIDIA GPUs that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(index) for index in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
    return visible.split(",") if visible else []
