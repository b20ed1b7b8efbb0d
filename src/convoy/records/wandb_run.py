"""Weights & Biases run without interactive prompts: online with a key, else offline in the run folder."""

from __future__ import annotations

import netrc
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from convoy.config.faults import Fault
from convoy.config.schema import Config, WandbConfig
from convoy.ledger.rows import COLUMNS, Ledger, as_dict
from convoy.runs.layout import RunFolder, shown
from convoy.runtime.garbage_collection import without_collector

if TYPE_CHECKING:  # imports torch, which `check_wandb` does without
    from convoy.tasks.task import ReportTable

_CONNECT_S = 5.0

_PROCESS_ENDED = (ConnectionError,)
"""Errors that W&B raises after a signal has ended its process."""

_MOST_ROWS = 100
"""Tables with more rows are not sent: a W&B table holds 10,000 rows, and a matrix has this number squared."""


class WandbRun:
    """W&B run that is opened by `open` or by its first use.

    Args:
        begin: Function that opens the record and returns the result of `wandb.init` and one line for the terminal:
            the location of the record, or the command that uploads it.
        notify: Function that prints that line.
    """

    def __init__(self, begin: Callable[[], tuple[Any, str]], notify: Callable[[str], None]) -> None:
        self._begin, self._notify = begin, notify
        self._run: Any = None
        self._ledger: Ledger | None = None

    @property
    def is_open(self) -> bool:
        return self._run is not None

    @property
    def run(self) -> Any:
        """Run object of wandb; opens the record if needed."""
        self.open()
        return self._run

    def open(self) -> None:
        """Open the record, if it is not open, and write the ledger to it, if there is one."""
        if self._run is None:
            self._run, notice = self._begin()
            self._notify(notice)
            if self._ledger is not None:
                self.log_ledger(self._ledger)

    def log_results(self, summary: Mapping[str, Any], tables: Mapping[str, ReportTable]) -> None:
        """Write the final metrics into the W&B summary, and the tables of the test as tables or charts.

        Args:
            summary: scalars by name.
            tables: of the task's report, by name.
        """
        with suppress(*_PROCESS_ENDED):
            self.run.summary.update({key: value for key, value in summary.items() if value is not None})
            for name, table in tables.items():
                if len(table.rows) <= _MOST_ROWS:
                    self.run.log({f"test/{name}": _confusion_chart(name, table) if table.is_matrix else _table(table)})

    def log_ledger(self, ledger: Ledger) -> None:
        """Log the ledger's rows as a table and its totals in the summary, or wait until the record is open."""
        if not self.is_open:
            self._ledger = ledger
            return
        import wandb

        rows = [list(as_dict(row).values()) for row in ledger.rows]
        self.run.log({"ledger": wandb.Table(columns=list(COLUMNS), data=rows)})
        self.run.summary.update({f"ledger/{name}": value for name, value in ledger.totals().items()})

    def finish(self, exit_code: int) -> None:
        """Close the record, if it is open and W&B's process is still running."""
        if self.is_open:
            with suppress(*_PROCESS_ENDED):
                self._run.finish(exit_code=exit_code)


def _table(table: ReportTable) -> Any:
    import wandb

    return wandb.Table(columns=list(table.columns), data=[list(row) for row in table.rows])


def _confusion_chart(name: str, table: ReportTable) -> Any:
    import wandb

    predicted = table.columns[1:]
    rows = [[row[0], column, count] for row in table.rows for column, count in zip(predicted, row[1:], strict=True)]
    columns: list[str | int] = ["Actual", "Predicted", "nPredictions"]
    return wandb.plot_table(
        "wandb/confusion_matrix/v1",
        wandb.Table(columns=columns, data=rows),
        {str(column): column for column in columns},
        {"title": f"test {name.replace('_', ' ')}"},
    )


def begin(config: Config, settings: WandbConfig, run: RunFolder, saved: Mapping[str, Any]) -> tuple[Any, str]:
    """Open a new W&B record, or continue the one whose id is stored in the run folder.

    Args:
        config: Config with name and tags of the run.
        settings: Settings of logger.wandb.
        run: Run folder, which stores the id and an offline record.
        saved: Resolved config as plain containers.

    Returns:
        The result of `wandb.init` and one line for the terminal.
    """
    with without_collector():
        import wandb

    online = _is_online(settings)
    run_id = _run_id(run)
    # wandb reads this variable where init's settings have no effect: in its service process and its state files.
    os.environ.setdefault("WANDB_SILENT", "true")
    options: dict[str, Any] = {
        "project": settings.project,
        "entity": settings.entity,
        "name": f"{config.name}-{run.path.name}" if run.path.name != config.name else config.name,
        "group": settings.group or os.environ.get("WANDB_RUN_GROUP"),
        "notes": settings.notes,
        "tags": list(config.tags) or None,
        "config": dict(saved),
        "dir": str(run.path),
        "id": run_id,
        "resume": "allow",
        "settings": wandb.Settings(console="off", silent=True, init_timeout=60),
    }
    sync = f"upload it with: wandb sync {shown(run.path)}/wandb/offline-run-*"
    reason = "offline"
    if online:
        unreachable = _unreachable()
        if unreachable is None:
            try:
                with _usr1_blocked():
                    opened = wandb.init(mode="online", **options)
                return opened, f"W&B: {opened.url or 'online'}"
            except wandb.errors.Error as error:
                unreachable = _first_line(error)
                wandb.teardown()  # otherwise its service keeps the run's id
        reason = f"can't be reached ({unreachable}), so offline"
    with _usr1_blocked():
        return wandb.init(mode="offline", **options), f"W&B: {reason}; {sync}"


@contextmanager
def _usr1_blocked() -> Iterator[None]:
    """Block SIGUSR1 in W&B's process, which is started inside; Slurm sends it to every process of a step.

    A child process inherits the signal mask of the thread that starts it. SIGTERM can't be blocked this way, because
    W&B's process installs a handler for it (see `wandb_logger`).
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def check_wandb(settings: WandbConfig | None) -> list[Fault]:
    """Return a fault for logger.wandb.mode=online without a key, before anything is written."""
    if settings is None or settings.mode != "online" or _has_key():
        return []
    remedy = "run wandb login once, set WANDB_API_KEY, or write logger.wandb.mode=offline"
    return [Fault("logger.wandb.mode", "there is no W&B key on this machine", remedy, "online")]


def _is_online(settings: WandbConfig) -> bool:
    wanted = os.environ.get("WANDB_MODE") if settings.mode == "auto" else settings.mode
    return wanted not in ("offline", "dryrun", "disabled") and _has_key()


def _has_key() -> bool:
    """Return True if there is a key in the environment or in the netrc file, where `wandb login` stores it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    file = os.environ.get("NETRC")
    try:
        return netrc.netrc(file).authenticators(_server()[0]) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _server() -> tuple[str, int]:
    """Return host and port of the W&B server."""
    url = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    return url.hostname or "api.wandb.ai", url.port or (80 if url.scheme == "http" else 443)


def _unreachable() -> str | None:
    """Return the reason why the server can't be reached, or None; wandb itself tries for more than a minute.

    Behind a proxy a direct connection says nothing, so the result is None.
    """
    if getproxies().keys() & {"http", "https", "all"}:
        return None
    try:
        socket.create_connection(_server(), timeout=_CONNECT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _run_id(run: RunFolder) -> str:
    if run.wandb_id.is_file():
        return run.wandb_id.read_text(encoding="utf-8").strip()
    run_id = secrets.token_hex(4)
    run.wandb_id.write_text(run_id + "\n", encoding="utf-8")
    return run_id


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
