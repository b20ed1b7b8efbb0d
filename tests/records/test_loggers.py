"""Files of the loggers, read with the loggers' own libraries."""

from __future__ import annotations

import base64
import csv
import json
import struct
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image
from tests.conftest import TINY, Run
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

Convoy = Callable[..., Run]


BLOCK, HEADER = 32 * 1024, struct.Struct("<IHB")
FULL, FIRST, LAST = 1, 2, 4


def entries(content: bytes) -> Iterator[bytes]:
    """Return the entries of a .wandb file: a header of seven bytes, then LevelDB's log format (doc/log_format.md).

    Each block of 32 KiB holds pieces with a header of checksum, length and kind; an entry is one whole piece or
    several in a row, and a block's last bytes are left where no header fits.
    """
    assert content[:4] == b":W&B"
    position, entry = 7, b""
    while position + HEADER.size <= len(content):
        if BLOCK - position % BLOCK < HEADER.size:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = HEADER.unpack_from(content, position)
        position += HEADER.size
        piece = content[position : position + length]
        position += length
        entry = piece if kind in (FULL, FIRST) else entry + piece
        if kind in (FULL, LAST):
            yield entry


def offline_records(folder: Path) -> list[Any]:
    """Every record of the offline W&B runs below a folder, in order, by W&B's own message types.

    W&B's service may write its file's end a moment after the run is finished: it is waited for.
    """
    paths = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    deadline = time.monotonic() + 30
    while True:
        files = [_records(path) for path in paths]
        if all(records and records[-1].WhichOneof("record_type") == "exit" for records in files):
            return [record for records in files for record in records]
        assert time.monotonic() < deadline, f"W&B left {paths} without an end"
        time.sleep(0.05)


def _records(path: Path) -> list[Any]:
    from wandb.proto import wandb_internal_pb2

    records = []
    for entry in entries(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(entry)
        records.append(record)
    return records


def history(records: list[Any]) -> list[dict[str, Any]]:
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]


def test_wandb_writes_offline_without_a_key_and_prints_the_sync_command(convoy: Convoy) -> None:
    run = convoy("train", *TINY, "logger=wandb", "tags=[first,course]", "name=digits-try")
    assert run.code == 0, run.err
    assert "W&B: offline; upload it with: wandb sync run/wandb/offline-run-*" in run.out
    records = offline_records(run.folder)
    (start,) = [record.run for record in records if record.WhichOneof("record_type") == "run"][:1]
    assert start.run_id == (run.folder / "wandb_id.txt").read_text().strip()
    assert list(start.tags) == ["first", "course"]
    config = {item.key: json.loads(item.value_json) for item in start.config.update}
    assert config["optimizer"]["momentum"] == 0.9

    logged = history(records)
    for name in ("train/loss", "val/top1", "test/top1", "lr"):
        from_file = [float(row[name]) for row in run.rows() if row[name]]
        assert [row[name] for row in logged if name in row] == pytest.approx(from_file)
    steps = [row["trainer/global_step"] for row in logged if "val/top1" in row]
    assert steps == [10, 20]

    summaries = [record.summary for record in records if record.WhichOneof("record_type") == "summary"]
    final = {item.key: json.loads(item.value_json) for summary in summaries for item in summary.update}
    assert final["best_step"] == run.summary()["best_step"]
    assert final["test/top1"] == pytest.approx(run.summary()["test/top1"])


@pytest.mark.slow
def test_wandb_is_opened_after_the_first_step_and_has_the_ledger(
    convoy: Convoy, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = []
    start = Thread.start

    def begin(thread: Thread) -> None:
        if thread.name == "convoy-wandb":
            events.append("open")
        start(thread)

    monkeypatch.setattr(Thread, "start", begin)

    def step(optimizer: Optimizer, *_: Any) -> None:
        if not optimizer.param_groups[0]["params"][0].is_meta:  # as those by which the ledger counts
            events.append("step")

    handle = register_optimizer_step_post_hook(step)
    try:
        run = convoy("train", *TINY, "logger=wandb", "trainer.max_steps=3")
    finally:
        handle.remove()
    assert events == ["step", "open", "step", "step"]
    (path,) = run.folder.glob("wandb/offline-run-*/files/media/table/ledger*.table.json")
    with (run.folder / "ledger.csv").open(newline="") as file:
        assert len(json.loads(path.read_text())["data"]) == len(list(csv.DictReader(file)))


@pytest.mark.slow
def test_a_run_with_only_the_test_left_opens_its_record(convoy: Convoy) -> None:
    run = convoy("train", *TINY, "logger=wandb", "trainer.max_steps=1")
    (run.folder / "summary.json").unlink()
    again = convoy("train", "resume=run")
    assert (run.code, again.code) == (0, 0)
    assert len([row for row in history(offline_records(run.folder)) if "test/top1" in row]) == 2


def test_wandb_has_the_confusion_matrix_and_the_worst_predictions(convoy: Convoy) -> None:
    run = convoy("train", *TINY, "logger=wandb")
    (path,) = run.folder.glob("wandb/offline-run-*/files/media/table/test/confusion_matrix*.table.json")
    table = json.loads(path.read_text())
    assert table["columns"] == ["Actual", "Predicted", "nPredictions"]
    assert sum(row[2] for row in table["data"]) == 359
    hits = sum(count for actual, predicted, count in table["data"] if actual == predicted)
    assert hits / 359 == pytest.approx(run.summary()["test/top1"])
    worst = json.loads((run.folder / "mistakes.json").read_text())["images"]
    logged = {path.read_bytes() for path in run.folder.glob("wandb/offline-run-*/files/media/images/test/worst*.png")}
    pixels = {Image.open(BytesIO(content)).tobytes() for content in logged}
    expected = [base64.b64decode(entry["image"].partition(",")[2]) for entry in worst]
    assert pixels == {Image.open(BytesIO(content)).tobytes() for content in expected}


@pytest.mark.slow
def test_a_sweeps_points_are_runs_of_one_group(shell: Convoy) -> None:
    done = shell("train", "-m", *TINY[1:], "trainer.max_steps=2", "optimizer.lr=0.1,0.2")
    assert done.code == 0, done.err
    (sweep,) = Path("outputs/sweeps").iterdir()
    records = [offline_records(point) for point in sorted(sweep.iterdir()) if point.is_dir()]
    runs = [next(record.run for record in one if record.WhichOneof("record_type") == "run") for one in records]
    assert [run.run_group for run in runs] == [sweep.name] * 2
    assert len({run.run_id for run in runs}) == 2


def test_tensorboard_reads_the_same_values(convoy: Convoy) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = convoy("train", *TINY, "logger=[csv,tensorboard]")
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    for name in ("train/loss", "val/top1"):
        from_file = [(int(row["step"]), float(row[name])) for row in run.rows() if row[name]]
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in found] == [step for step, _ in from_file]
        assert [value for _, value in found] == pytest.approx([value for _, value in from_file])
