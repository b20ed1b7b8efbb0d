"""Ledger of a run: its files, its copy in W&B, its measurements, and unchanged results of the run."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import TINY, Run
from tests.records.test_loggers import history, offline_records
from torch import Tensor, nn

from convoy.records.norms import layer_norms
from convoy.training import run_parts

Convoy = Callable[..., Run]

LONG = (*(word for word in TINY if "max_epochs" not in word and "layers" not in word), "trainer.max_epochs=10")
"""A hundred steps, enough to be measured."""
LAYERS = "model.layers=[CONV3-8 bn,POOL4,DROPOUT0.3,FC-32 relu,FC-10]"


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "ledger.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def content(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "ledger.json").read_text()))


def test_every_run_leaves_its_ledger(convoy: Convoy) -> None:
    run = convoy("train", *TINY, "trainer.max_steps=2")
    assert run.code == 0, run.err
    rows = table(run.folder)
    # In channels_last memory a map is copied when it is flattened.
    assert [row["layer"] for row in rows] == [
        "INPUT",
        "CONV3-8",
        "TANH",
        "POOL4",
        "FLATTEN",
        "DROPOUT0.3",
        "FC-32",
        "TANH",
        "FC-10",
    ]
    assert sum(int(row["params"]) for row in rows) == run.summary()["parameters"]
    assert content(run.folder)["totals"]["params"] == run.summary()["parameters"]
    assert content(run.folder)["micro_batch_size"] == 128
    assert {row["forward_time_ms"] for row in rows} == {""}


@pytest.mark.parametrize("memory", ["trainer.channels_last=true", "trainer.channels_last=false"])
def test_convoy_ledger_prints_what_the_run_logs(convoy: Convoy, memory: str) -> None:
    run = convoy("train", *TINY, memory, "trainer.max_steps=1", "scheduler=constant")
    assert convoy("ledger", *TINY, memory, "format=csv").out == (run.folder / "ledger.csv").read_text()


def test_wandb_files_contain_the_table_and_the_totals(convoy: Convoy) -> None:
    run = convoy("train", *TINY, "logger=wandb", "trainer.max_steps=2")
    (path,) = run.folder.glob("wandb/offline-run-*/files/media/table/ledger*.table.json")
    kept = json.loads(path.read_text())
    rows = table(run.folder)
    assert kept["columns"] == list(rows[0])
    assert [[("" if cell is None else str(cell)) for cell in row] for row in kept["data"]] == [
        list(row.values()) for row in rows
    ]
    records = offline_records(run.folder)
    assert [row["ledger/nrows"] for row in history(records) if "ledger/nrows" in row] == [len(rows)]
    summaries = [record.summary for record in records if record.WhichOneof("record_type") == "summary"]
    final = {
        "/".join(item.nested_key) or item.key: json.loads(item.value_json) for one in summaries for item in one.update
    }
    totals = content(run.folder)["totals"]
    assert {name: final[f"ledger/{name}"] for name in totals} == totals


def test_measured_columns_join_and_are_logged_once_more(convoy: Convoy) -> None:
    run = convoy("train", *LONG, LAYERS, "logger=wandb", "ledger.measure_steps=20")
    assert run.code == 0, run.err
    rows = {row["module"]: row for row in table(run.folder) if row["module"]}
    for module in ("features.0", "features.2", "features.3", "classifier.0", "classifier.2"):
        assert 0 < float(rows[module]["forward_time_ms"]) < 1000
        assert 0 < float(rows[module]["backward_time_ms"]) < 1000
    assert "20 passes of 128 images on CPU" in content(run.folder)["measured"]
    assert 0 < content(run.folder)["optimizer_time_ms"] < 1000
    assert 0 < run.summary()["logging_share"] < 1
    paths = list(run.folder.glob("wandb/offline-run-*/files/media/table/ledger*.table.json"))
    assert len(paths) == 2
    times = [[row[-3] for row in json.loads(path.read_text())["data"]] for path in paths]
    assert sorted(sum(time is not None for time in one) for one in times)[0] == 0
    assert max(sum(time is not None for time in one) for one in times) >= 6


@pytest.mark.slow
def test_measuring_changes_no_bit_and_no_throughput(convoy: Convoy) -> None:
    """In-place ReLU, batch norm, dropout and accumulation, with and without hooks."""
    words = (*LONG, LAYERS, "trainer.micro_batch_size=64", "trainer.log_every_steps=5")
    measured = convoy("train", *words, "ledger.measure_steps=20", folder="on")
    plain = convoy("train", *words, "ledger.measure_steps=0", folder="off")
    assert measured.code == plain.code == 0, measured.err + plain.err
    assert measured.rows() == plain.rows()
    one, other = (run.checkpoint()["state_dict"] for run in (measured, plain))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert {row["forward_time_ms"] for row in table(plain.folder)} == {""}
    with (measured.folder / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    # Three passes to warm up and 20 measured, two a step: up to step 12.
    assert all((row["images_per_s"] == "") == (int(row["step"]) <= 12) for row in rows)
    assert measured.summary()["images_per_s"] > 0


def test_a_run_too_short_to_be_measured_keeps_its_throughput(convoy: Convoy) -> None:
    run = convoy("train", *TINY)
    assert run.summary()["images_per_s"] > 0
    assert {row["forward_time_ms"] for row in table(run.folder)} == {""}


@pytest.mark.slow
def test_a_resumed_run_keeps_earlier_measurements(convoy: Convoy) -> None:
    run = convoy("train", *LONG, LAYERS)
    before = content(run.folder)
    again = convoy("train", "resume=run", "trainer.max_epochs=11")
    assert again.code == 0, again.err
    assert before["measured"]
    assert content(run.folder) == before


def test_a_model_that_needs_data_is_trained_without_a_ledger(convoy: Convoy, monkeypatch: pytest.MonkeyPatch) -> None:
    class Peeking(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Tensor) -> Tensor:
            return self.network(images if float(images.mean()) > -100 else -images)  # type: ignore[no-any-return]

    real = run_parts.build_model
    monkeypatch.setattr(run_parts, "build_model", lambda *given, **sizes: Peeking(real(*given, **sizes)))
    run = convoy("train", *TINY, "trainer.max_steps=2")
    assert run.code == 0, run.err
    (line,) = [line for line in run.out.splitlines() if "ledger" in line]
    assert line.startswith("no ledger of this model: can't be traced without data (")
    assert not (run.folder / "ledger.csv").exists()
    assert run.summary()["status"] == "finished"


@pytest.mark.slow
def test_norms_of_layers_go_to_the_loggers_and_a_file(convoy: Convoy) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = (*TINY[1:], "logger=[tensorboard,wandb]", "ledger.norms_every_steps=5")
    run = convoy("train", *words)
    assert run.code == 0, run.err
    with (run.folder / "norms.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    modules = ["features.0", "classifier.1", "classifier.3"]
    assert [(int(row["step"]), row["module"]) for row in rows] == [
        (step, module) for step in (5, 10, 15, 20) for module in modules
    ]
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    for column in ("weight_norm", "gradient_norm"):
        found = [(event.step, event.value) for event in events.Scalars(f"{column}/classifier.3")]
        mine = [(int(row["step"]), float(row[column])) for row in rows if row["module"] == "classifier.3"]
        assert found == [(step, pytest.approx(value)) for step, value in mine]
        logged = [row for row in history(offline_records(run.folder)) if f"{column}/classifier.3" in row]
        assert [row["trainer/global_step"] for row in logged] == [5, 10, 15, 20]
    assert convoy("train", *TINY, "trainer.max_epochs=2", folder="plain").rows() == run.rows()


def test_norms_after_a_resume_are_those_of_an_undisturbed_run(convoy: Convoy) -> None:
    whole = convoy("train", *TINY, "ledger.norms_every_steps=4", folder="whole")
    convoy("train", *TINY, "ledger.norms_every_steps=4", "trainer.max_steps=13", "scheduler=constant", folder="part")
    part = convoy("train", "resume=part", "trainer.max_steps=20", folder="part")
    assert part.code == 0, part.err
    texts = [(run.folder / "norms.csv").read_text() for run in (whole, part)]
    assert [line.split(",")[:2] for line in texts[0].splitlines()] == [
        line.split(",")[:2] for line in texts[1].splitlines()
    ]


def test_layer_norms_are_torchs_total_norm_of_each_layer() -> None:
    network = nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2, bias=False))
    network(torch.randn(4, 5)).square().sum().backward()
    norms = layer_norms(network)
    assert list(norms) == ["0", "2"]
    for name, (weight, gradient) in norms.items():
        layer = network[int(name)]
        assert gradient == pytest.approx(float(nn.utils.clip_grad_norm_(layer.parameters(), 1e9)))
        assert weight == pytest.approx(float(nn.utils.parameters_to_vector(layer.parameters()).detach().norm()))


@pytest.mark.parametrize(
    ("word", "said"),
    [("ledger.measure_steps=5", "0 (off) or at least 20"), ("ledger.norms_every_steps=-1", "at least 0")],
)
def test_an_impossible_measurement_is_refused(convoy: Convoy, word: str, said: str) -> None:
    done = convoy("train", *TINY, word)
    assert done.code == 2
    assert said in done.err
