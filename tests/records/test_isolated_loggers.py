"""Loggers that fail, hang or have nowhere to write: the run and its own records are the same as without them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
from tests.conftest import TINY, Run, read_rows
from tests.records.test_loggers import history, offline_records

from convoy.commands.main import main
from convoy.records import isolated_logger

Convoy = Callable[..., Run]

ODD = """
import os, signal, sys, time
from pathlib import Path
import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger

def wandb_process():
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
            if parent == os.getpid() and b"wandb_process" in (path.parent / "cmdline").read_bytes():
                return int(path.parent.name)
        except OSError:
            pass

class KillWandb(pl.Callback):
    def on_train_epoch_start(self, trainer, module):
        if trainer.current_epoch == 1:
            while (process := wandb_process()) is None:
                time.sleep(0.01)
            os.kill(process, signal.SIGKILL)

class Odd(Logger):
    def __init__(self, method, way):
        super().__init__()
        self.way = way
        setattr(self, method, self.fail)

    name, version = "odd", 0

    def fail(self, *given, **named):
        if self.way == "raise":
            raise ValueError("the logger's server is gone\\nfor good")
        if self.way == "exit":
            sys.exit(3)
        if self.way == "hang":
            time.sleep(1000)

    def log_hyperparams(self, *given, **named):
        pass

    def log_metrics(self, *given, **named):
        pass
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Return the rows of metrics.csv of a run without loggers."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    assert main(["train", *TINY, f"folder={folder}"]) == 0
    return read_rows(folder)


@pytest.fixture
def expected(plain: list[dict[str, str]]) -> list[dict[str, str]]:
    """Write the module `odd`, and return the rows that a run must have."""
    Path("odd.py").write_text(ODD)
    return plain


@contextmanager
def server(kind: str) -> Iterator[str]:
    """Run a server on loopback that hangs, answers 500 or answers slowly, and yield its address."""
    ended = Event()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            ended.wait({"hang": None, "slow": 3.0, "500": 0.0}[kind])
            self.send_response(500)
            self.end_headers()

        do_GET = do_POST = do_PUT = answer  # noqa: N815 (names of http.server)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as opened:
        thread = Thread(target=opened.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{opened.server_port}"
        finally:
            ended.set()
            opened.shutdown()
            thread.join()


def check_offline_record(run: Run, expected: list[dict[str, str]]) -> None:
    assert run.code == 0, run.err
    assert run.rows() == expected
    assert run.summary()["status"] == "finished"
    logged = [row["train/loss"] for row in history(offline_records(run.folder)) if "train/loss" in row]
    assert logged == pytest.approx([float(row["train/loss"]) for row in expected if row["train/loss"]])


def test_a_closed_port(convoy: Convoy, monkeypatch: pytest.MonkeyPatch, expected: list[dict[str, str]]) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    run = convoy("train", *TINY, "logger=wandb")
    assert "W&B: can't be reached (" in run.out
    assert ", so offline; upload it with: wandb sync run/wandb/offline-run-*" in run.out
    check_offline_record(run, expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hang", *(pytest.param(kind, marks=pytest.mark.faults) for kind in ("500", "slow"))])
def test_a_server_that_never_answers_well(
    convoy: Convoy, monkeypatch: pytest.MonkeyPatch, expected: list[dict[str, str]], kind: str
) -> None:
    """The run ends while the server still hangs, so it did not wait; the record is offline then."""
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with server(kind) as address:
        monkeypatch.setenv("WANDB_BASE_URL", address)
        run = convoy("train", *TINY, "logger=wandb")
    reason = "no answer before the end of the run"
    assert run.out.index("\ntrained ") < run.out.index(f"W&B: can't be reached ({reason}), so offline")
    check_offline_record(run, expected)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Mount a read-only file system; root ignores permissions."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no right to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["below a file", "read-only", pytest.param("missing", marks=pytest.mark.faults)])
def test_a_read_only_home_folder(
    convoy: Convoy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, expected: list[dict[str, str]], place: str
) -> None:
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home / "me"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(home / "cache"))
    if place == "read-only":
        with read_only(home):
            run = convoy("train", *TINY, "logger=wandb")
    else:
        if place == "below a file":
            home.touch()
        else:
            monkeypatch.delenv("HOME")
        run = convoy("train", *TINY, "logger=wandb")
    check_offline_record(run, expected)
    assert "record ends" not in run.out
    if place != "missing":
        assert (run.folder / "wandb" / "data").is_dir()


def test_the_end_of_its_process_ends_only_the_record(convoy: Convoy, expected: list[dict[str, str]]) -> None:
    run = convoy("train", *TINY, "logger=wandb", "+callback.kill._target_=odd.KillWandb")
    assert run.code == 0, run.err
    assert "W&B: the record ends here (its process ended" in run.out
    assert run.rows() == expected


@pytest.mark.parametrize(
    ("method", "way", "reason"),
    [
        ("log_metrics", "raise", "the logger's server is gone for good"),
        ("log_metrics", "exit", "3"),
        ("log_metrics", "hang", "it didn't finish within 1 s"),
        *(
            pytest.param(method, "raise", "the logger's server is gone for good", marks=pytest.mark.faults)
            for method in ("log_graph", "save", "finalize")
        ),
    ],
)
def test_a_logger_that_fails_is_dropped(
    convoy: Convoy,
    monkeypatch: pytest.MonkeyPatch,
    expected: list[dict[str, str]],
    method: str,
    way: str,
    reason: str,
) -> None:
    monkeypatch.setattr(isolated_logger, "FINISH_S", 1.0)
    Path("conf/logger").mkdir(parents=True)
    option = f"other: {{mine: {{_target_: odd.Odd, method: {method}, way: {way}}}}}"
    Path("conf/logger/mine.yaml").write_text(option)
    run = convoy("train", "--config-dir", "conf", *TINY, "logger=[csv,mine]", "folder=run")
    assert run.code == 0, run.err
    assert run.out.count(f"logger.other.mine is dropped ({reason}); metrics.csv has all rows") == 1
    assert run.rows() == expected
    assert "Traceback" not in run.out + run.err + (run.folder / "run.log").read_text()
    assert "Traceback" in (run.folder / "debug.log").read_text() or way == "hang"


def test_tensorboard_without_a_place_is_dropped(convoy: Convoy, expected: list[dict[str, str]]) -> None:
    run = convoy("train", *TINY, "logger=tensorboard", "logger.tensorboard.folder=config.yaml")
    assert run.code == 0, run.err
    assert "logger.tensorboard is dropped (" in run.out
    assert run.rows() == expected


def test_mlflow_writes_its_file_store(convoy: Convoy, expected: list[dict[str, str]]) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install mlflow-skinny")
    from mlflow.tracking import MlflowClient

    run = convoy("train", *TINY, "logger=mlflow")
    assert run.code == 0, run.err
    assert "dropped" not in run.out
    client = MlflowClient(f"file:{run.folder}/mlflow")
    experiment = client.get_experiment_by_name("convoy")
    assert experiment is not None
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.info.status == "FINISHED"
    losses = [point.value for point in client.get_metric_history(logged.info.run_id, "train/loss")]
    assert losses == pytest.approx([float(row["train/loss"]) for row in expected if row["train/loss"]])


def test_run_log_has_only_the_lines_of_the_run(convoy: Convoy) -> None:
    run = convoy("train", *TINY)
    lines = [line[22:] for line in (run.folder / "run.log").read_text().splitlines()]
    assert set(filter(None, lines)) <= set(run.out.splitlines())
    debug = (run.folder / "debug.log").read_text()
    assert "GPU available" in debug
    assert "GPU available" not in run.out + run.err
