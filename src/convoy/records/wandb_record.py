"""W&B record of a run, which a process beside training keeps, so that W&B can neither end nor delay the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from convoy.config.faults import one_line
from convoy.ledger.rows import COLUMNS, LedgerRows, as_dict
from convoy.records import wandb_process
from convoy.runs.layout import RunFolder, shown

if TYPE_CHECKING:  # imports torch
    from convoy.tasks.task_report import ReportTable

FINISH_S = {"online": 20.0, "offline": 90.0}
"""Longest wait at the end of a run for the rest of the record, by mode."""

_MOST_ROWS = 100
"""Tables with more rows are not sent: a W&B table holds 10,000 rows, and a matrix has this number squared."""

_FOLDERS = {"WANDB_DATA_DIR": "~/.local/share", "WANDB_CACHE_DIR": "~/.cache", "WANDB_CONFIG_DIR": "~/.config"}
"""Variables of wandb's own folders, and their usual parents."""


class WandbRecord:
    """W&B record, opened by `open` or by the first row. Rows wait in memory until it is open.

    The record is online if the server answers before the run ends, else offline in the run's folder.

    Args:
        run: Run folder.
        init: Arguments of `wandb.init`, without the mode.
        server: Host and port of the W&B server, or None if it is not checked. Only with `online`.
        online: True to try the server.
        notify: Function that prints one line: the location of the record, or the reason of its end.
    """

    def __init__(
        self,
        run: RunFolder,
        init: Mapping[str, Any],
        server: tuple[str, int] | None,
        notify: Callable[[str], None],
        *,
        online: bool,
    ) -> None:
        self._run, self._init, self._server, self._notify = run, init, server, notify
        self._mode = "online" if online else "offline"
        self._messages: SimpleQueue[str | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._process: subprocess.Popen[str] | None = None
        self._lock = Lock()
        self._is_open = self._is_ending = self._is_lost = False

    def open(self) -> None:
        """Start to open the record, unless that was done before."""
        if self._thread is None:
            self._thread = Thread(target=self._work, name="convoy-wandb", daemon=True)
            self._thread.start()

    def log(self, row: Mapping[str, Any]) -> None:
        """Log a row of metrics."""
        self.open()
        self._send(log=dict(row))

    def log_results(self, summary: Mapping[str, Any], tables: Mapping[str, ReportTable], pictures: Path) -> None:
        """Write the final metrics into the W&B summary, the tables of the test as tables or charts, and images.

        Args:
            summary: Scalars by name.
            tables: Tables of the task's report, by name.
            pictures: File with the worst predictions (see `Mistakes.write`); it need not exist.
        """
        self.open()
        small = {
            f"test/{name}": {"columns": list(table.columns), "rows": table.rows, "is_matrix": table.kind == "matrix"}
            for name, table in tables.items()
            if len(table.rows) <= _MOST_ROWS
        }
        self._send(summary={key: value for key, value in summary.items() if value is not None}, tables=small)
        if pictures.is_file():
            self._send(pictures=str(pictures.absolute()))

    def log_ledger(self, ledger: LedgerRows) -> None:
        """Log the ledger's rows as a table and its totals in the summary, once the record is open."""
        rows = [list(as_dict(row).values()) for row in ledger.rows]
        table = {"columns": list(COLUMNS), "rows": rows, "is_matrix": False}
        totals = {f"ledger/{name}": value for name, value in ledger.totals().items()}
        self._send(tables={"ledger": table}, summary=totals)

    def finish(self, exit_code: int) -> None:
        """Close the record, if `open` was called. A server that has not answered by now is given up."""
        if self._thread is None:
            return
        self._send(finish=exit_code)
        self._messages.put(None)
        with self._lock:
            self._is_ending = True
            is_online = self._mode == "online" and self._is_open
            if self._mode == "online" and not is_online:
                self._kill()
        seconds = FINISH_S["online" if is_online else "offline"]
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._kill()
            self._lose(f"not everything was written within {seconds:.0f} s; wandb sync sends what was")

    def _send(self, **message: Any) -> None:
        if not self._is_lost:
            self._messages.put(json.dumps(message, default=_plain) + "\n")

    def _work(self) -> None:
        """Keep the record, in a thread; a fault of this machine, such as too many processes, ends only the record."""
        # Slurm sends SIGUSR1 to all processes of a step; the process inherits this mask.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGHUP])
        try:
            self._keep()
        except Exception as error:
            self._lose(one_line(error))

    def _keep(self) -> None:
        """Open the record and write the messages to it."""
        answer = self._start()
        notice = f"W&B: {answer.get('url') or 'online'}"
        if self._mode == "online" and "url" not in answer:
            reason = f"can't be reached ({answer.get('error', 'no answer before the end of the run')}), so offline"
            self._mode = "offline"
            answer = self._start()
        elif self._mode == "offline":
            reason = "offline"
        if self._mode == "offline":
            notice = f"W&B: {reason}; upload it with: wandb sync {shown(self._run.path)}/wandb/offline-run-*"
        if "url" not in answer:
            self._lose(answer.get("error", "its process ended"))
            return
        self._notify(notice)
        error = self._write()
        if error is not None and not self._is_lost:
            self._lose(error)

    def _start(self) -> dict[str, str]:
        """Start the process and return its answer, which is empty if it ended without one."""
        with self._lock:
            if self._is_ending and self._mode == "online":
                return {}
            with self._run.debug_log.open("a") as debug:
                self._process = subprocess.Popen(
                    # -P: a file in the working folder or beside the program must not be imported in place of a library.
                    [sys.executable, "-P", wandb_process.__file__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=debug,
                    text=True,
                    env=_environment(self._run.path),
                    process_group=0,  # Ctrl-C in a terminal is for training, which ends the record
                )
        server = self._server if self._mode == "online" else None
        answer: dict[str, str] = {}
        with suppress(OSError):  # the process has ended
            self._feed(json.dumps({"init": {**self._init, "mode": self._mode}, "server": server}) + "\n")
            answer = self._answer()
        with self._lock:
            self._is_open = "url" in answer
            if not self._is_open:
                self._kill()
                self._process.wait()
        return answer

    def _write(self) -> str | None:
        """Write the messages until the end, and return the error of a record that ended before."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            for line in iter(self._messages.get, None):
                self._feed(line)
            self._process.stdin.close()
        except OSError:  # the process has ended
            pass
        error = self._answer().get("error")
        self._process.stdout.close()
        if self._process.wait() == 0:
            return None
        return error or f"its process ended with code {self._process.returncode}"

    def _feed(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def _answer(self) -> dict[str, str]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return dict(json.loads(line)) if line else {}

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _lose(self, reason: str) -> None:
        self._is_lost = True
        self._notify(f"W&B: the record ends here ({reason}); metrics.csv has all rows")


def _plain(value: Any) -> float | str:
    """Return a value that JSON doesn't have as a number, or else as text."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return str(value)


def _environment(folder: Path) -> dict[str, str]:
    """Return the process's environment, with wandb's own folders in the run's folder if the usual ones are unusable."""
    environment = dict(os.environ)
    for variable, parent in _FOLDERS.items():
        usual = os.environ.get(variable) or os.environ.get(f"XDG_{variable.split('_')[1]}_HOME", parent) + "/wandb"
        if not _is_usable(usual):
            environment[variable] = str(folder.absolute() / "wandb" / variable.split("_")[1].lower())
    return environment


def _is_usable(folder: str) -> bool:
    try:
        path = Path(folder).expanduser()
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return False
    return os.access(path, os.W_OK | os.X_OK)
