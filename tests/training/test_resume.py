"""A run that was stopped, by whatever means, ends as one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.conftest import TINY, Run, command, read_rows

from convoy.training import signals
from convoy.training.lightning_module import TrainingModule

Convoy = Callable[..., Run]

LONG = (*TINY, "trainer.max_epochs=4", "trainer.global_batch_size=32")
"""160 steps."""


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(["train", *words]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ)
    )


def stop_after(process: subprocess.Popen[str], folder: Path, step: int, number: int) -> str:
    """Send a signal once metrics.csv has a row of that step; give what the process had printed."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if (folder / "metrics.csv").is_file():
            steps = [int(row["step"]) for row in read_rows(folder) if (row["step"] or "").isdigit()]
            if steps and max(steps) >= step:
                break
        time.sleep(0.002)
    process.send_signal(number)
    out, _ = process.communicate(timeout=120)
    return out


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def assert_equal_runs(one: Path, other: Path, extra: Sequence[str] = ()) -> None:
    assert read_rows(one) == read_rows(other)
    first, second = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (one, other))
    for name in ("state_dict", *extra):
        assert set(first[name]) == set(second[name])
        assert all(torch.equal(first[name][key], second[name][key]) for key in first[name])


@pytest.mark.slow
def test_a_run_stopped_by_signals_ends_as_an_undisturbed_one(shell: Convoy) -> None:
    undisturbed = shell("train", *LONG, folder="a")
    assert undisturbed.code == 0, undisturbed.err
    process = start(*LONG, "folder=b")
    for step, number in ((14, signal.SIGINT), (81, signal.SIGTERM)):
        out = stop_after(process, Path("b"), step, number)
        assert process.returncode == 128 + number, out
        assert "to resume: convoy train resume=b" in out
        process = start("resume=b")
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert_equal_runs(Path("a"), Path("b"))


@pytest.mark.slow
def test_a_killed_run_resumes_from_its_last_checkpoint(shell: Convoy) -> None:
    """Dropout, averaging, accumulation and a plateau schedule have state of their own; none of it is lost."""
    settings = (
        *LONG,
        "trainer.micro_batch_size=16",
        "trainer.ema_decay=0.98",
        "task.mixup=0.2",
        "optimizer=adamw",
        "scheduler=plateau",
        "scheduler.patience=0",
        "trainer.checkpoint_every_steps=7",
    )
    assert shell("train", *settings, folder="a").code == 0
    process = start(*settings, "folder=b")
    stop_after(process, Path("b"), 60, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    resumed = shell("train", "resume=b/checkpoints/last.ckpt", folder="b")
    assert resumed.code == 0, resumed.err
    assert_equal_runs(Path("a"), Path("b"), extra=("current_model_state",))


def test_a_finished_run_can_be_made_longer(convoy: Convoy) -> None:
    """With a constant rate, 2 epochs and then 2 more are 4 epochs."""
    assert convoy("train", *TINY, "scheduler=constant", "trainer.max_epochs=4", folder="whole").code == 0
    assert convoy("train", *TINY, "scheduler=constant", folder="parts").code == 0
    assert convoy("train", "resume=parts", "trainer.max_epochs=4").code == 0
    assert_equal_runs(Path("whole"), Path("parts"))


def test_a_run_that_ended_within_an_epoch_can_be_made_longer(convoy: Convoy) -> None:
    """The validation at step 13 is one more than the whole run has; all else is the same."""
    assert convoy("train", *TINY, "scheduler=constant", folder="whole").code == 0
    assert convoy("train", *TINY, "scheduler=constant", "trainer.max_steps=13", folder="parts").code == 0
    assert convoy("train", "resume=parts", "trainer.max_steps=null").code == 0
    states = [
        torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"] for name in ("whole", "parts")
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


TIMES = ("seconds", "images_per_s", "data_wait", "logging_share")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("trainer.max_steps=13",),
        # Training ends before its last step.
        ("optimizer.lr=1e-12", "optimizer.weight_decay=0", "trainer.max_epochs=5", "trainer.early_stopping_epochs=1"),
    ],
    ids=["whole epochs", "part of an epoch", "early stopping"],
)
def test_a_run_stopped_during_the_test_resumes_with_the_test(convoy: Convoy, words: tuple[str, ...]) -> None:
    """It writes each of its last records, whichever of them it was stopped before."""
    for name, missing in (("test", ("summary.json", "confusion_matrix.csv")), ("summary", ("summary.json",))):
        whole = convoy("train", *TINY, *words, folder=name)
        before, rows, summary = whole.checkpoint()["state_dict"], whole.rows(), whole.summary()
        table = (whole.folder / "confusion_matrix.csv").read_bytes()
        assert "train/loss" in summary
        for file in missing:
            (whole.folder / file).unlink()
        resumed = convoy("train", f"resume={name}")
        assert resumed.code == 0, resumed.err
        again = Run(0, "", "", whole.folder)
        assert again.rows() == rows
        summary_again = again.summary()
        assert {key: value for key, value in summary_again.items() if key not in TIMES} == {
            key: value for key, value in summary.items() if key not in TIMES
        }
        assert (whole.folder / "confusion_matrix.csv").read_bytes() == table
        assert all(torch.equal(before[key], value) for key, value in again.checkpoint()["state_dict"].items())


def test_a_run_whose_time_is_up_at_an_epochs_end_resumes_with_the_test(
    convoy: Convoy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour passes in the validation of the second epoch."""
    hours = [0]
    monkeypatch.setattr(
        signals, "time", types.SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * max(0, hours[0] - 1))
    )
    validation_step = TrainingModule.validation_step

    def late(*args: Any) -> None:
        hours[0] += 1
        validation_step(*args)

    monkeypatch.setattr(TrainingModule, "validation_step", late)
    whole = convoy("train", *TINY, "trainer.max_epochs=5", "trainer.max_time=00:30:00")
    rows, before = whole.rows(), whole.checkpoint()
    assert before["global_step"] == 20
    (whole.folder / "summary.json").unlink()
    resumed = convoy("train", "resume=run")
    assert resumed.code == 0, resumed.err
    assert resumed.rows() == rows
    assert resumed.checkpoint()["global_step"] == 20
    assert resumed.summary()["steps"] == 20


def test_a_run_that_was_made_longer_is_not_taken_for_concluded(convoy: Convoy) -> None:
    """A run of 10 steps is concluded, made longer, and stopped before its second summary."""
    assert convoy("train", *TINY, "trainer.max_epochs=1").code == 0
    first = Path("run/summary.json").read_text()
    assert convoy("train", "resume=run", "trainer.max_epochs=2").code == 0
    second = Path("run/summary.json").read_text()
    Path("run/summary.json").write_text(first)
    assert convoy("train", "resume=run").code == 0
    assert Run(0, "", "", Path("run")).summary()["steps"] == 20
    assert '"steps": 20' in second
    assert convoy("train", "resume=run").code == 2


def test_half_a_row_does_not_count(convoy: Convoy) -> None:
    """A full disk or a loss of power cuts a file anywhere; "13" of step 135 is no row of step 13."""
    assert convoy("train", *TINY, "ledger.norms_every_steps=5", folder="whole").code == 0
    assert convoy("train", *TINY, "ledger.norms_every_steps=5", "trainer.max_epochs=1", folder="cut").code == 0
    for name, half in (("metrics.csv", "1"), ("norms.csv", "5,0,1.5,2")):
        with Path("cut", name).open("a") as file:
            file.write(half)
    assert convoy("train", "resume=cut", "trainer.max_epochs=2", "scheduler=cosine").code == 0
    assert [row["step"] for row in read_rows(Path("cut"))] == [row["step"] for row in read_rows(Path("whole"))]
    counts = [len(Path(name, "norms.csv").read_text().splitlines()) for name in ("whole", "cut")]
    assert counts[0] == counts[1]


def test_resume_continues_in_the_run_folder_with_its_config_and_record(convoy: Convoy) -> None:
    assert convoy("train", *TINY, "seed=9", "logger=wandb", "tags=[x]", folder="run").code == 0
    record = Path("run/wandb_id.txt").read_text()
    resumed = convoy("train", "resume=run", "trainer.max_epochs=3")
    assert resumed.code == 0, resumed.err
    assert "resuming after step 20" in resumed.out
    assert Path("run/wandb_id.txt").read_text() == record
    # offline-run-<time>-<id>, with a number after it where both starts fell into one second
    assert {path.name.split("-")[3] for path in Path("run/wandb").glob("offline-run-*")} == {record.strip()}
    config = Path("run/config.yaml").read_text()
    assert "seed: 9" in config
    assert "max_epochs: 3" in config
    assert not Path("outputs").exists()


def test_latest_is_the_run_with_the_newest_checkpoint(convoy: Convoy) -> None:
    for name in ("one", "two"):
        assert convoy("train", *TINY, f"name={name}", "trainer.max_steps=2", folder=None).code == 0
    (one,), (two,) = Path("outputs/one").iterdir(), Path("outputs/two").iterdir()
    assert convoy("train", "resume=latest", "trainer.max_steps=3").code == 0
    assert torch.load(two / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 3
    assert convoy("train", "resume=latest", "name=one", "trainer.max_steps=4").code == 0
    assert torch.load(one / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 4


def test_a_run_that_was_killed_before_its_page_gets_it(convoy: Convoy) -> None:
    words = (*TINY, "trainer.max_steps=2", "folder=run")
    assert convoy("train", *words).code == 0
    whole = content(Path("run"))
    Path("run/report.html").unlink()
    done = convoy("train", "resume=run")
    assert done.code == 0, done.err
    assert done.out.splitlines() == ["page: run/report.html"]
    assert content(Path("run")) == whole
    Path("run/report.html").unlink()
    assert "has done all its 2 steps" in convoy("train", "resume=run", "report=false").err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("resume=run",), "has done all its 2 steps; write a larger end with it"),
        (("resume=run", "model=resnet18", "trainer.max_steps=9"), "holds another model's weights"),
        (("resume=run", "trainer.max_step=9"), "did you mean trainer.max_steps?"),
        (("resume=nowhere",), "resume=nowhere: no such run"),
        (("resume=empty",), "is not a run's folder"),
        (("resume=broken/checkpoints/last.ckpt", "trainer.max_steps=9"), "can't be read"),
        (("resume=foreign/checkpoints/last.ckpt", "trainer.max_steps=9"), "was not written by Convoy"),
    ],
)
def test_a_run_that_cannot_be_resumed_is_not_changed(convoy: Convoy, words: tuple[str, ...], message: str) -> None:
    assert convoy("train", *TINY, "trainer.max_steps=2").code == 0
    Path("empty").mkdir()
    for name in ("broken", "foreign"):
        Path(name, "checkpoints").mkdir(parents=True)
        for file in ("config.yaml", "environment.json"):
            Path(name, file).write_text(Path("run", file).read_text())
    Path("broken/checkpoints/last.ckpt").write_bytes(Path("run/checkpoints/last.ckpt").read_bytes()[:1000])
    torch.save({"weights": torch.zeros(1)}, "foreign/checkpoints/last.ckpt")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file() and path.name != ".lock"}
    refused = convoy("train", *words)
    assert refused.code == 2
    assert message in refused.err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file() and path.name != ".lock"} == before


def test_a_run_is_not_resumed_with_other_classes(convoy: Convoy) -> None:
    assert convoy("train", *TINY, "trainer.max_steps=1", "trainer.test=false").code == 0
    for label in "abcdefghij":
        Path("set/train", label).mkdir(parents=True)
        for index in range(3):
            Image.new("L", (32, 32), 60 * index).save(f"set/train/{label}/{index}.png")
    data = ("data=set", "data.channels=1", "data.image_size=32", "data.mean=[0.5]", "data.std=[0.5]")
    refused = convoy("train", "resume=run", *data, "trainer.max_steps=9", "trainer.global_batch_size=8")
    assert refused.code == 2
    assert "data=image_folder: has the classes a, b, c, d, e and 5 more; the run was trained with 0, 1," in refused.err
    remedy = "model.pretrained=" + refused.err.strip().rpartition("model.pretrained=")[2]
    words = [word for word in TINY if not word.startswith("data")]
    done = convoy("train", *words, *data, "trainer.max_steps=1", "trainer.global_batch_size=8", remedy, folder="new")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("optimizer=adamw", "optimizer._target_=torch.optim.AdamW: last.ckpt has the state of torch.optim.SGD"),
        ("optimizer.layer_decay=0.5", "the optimizer of the run trains other parameters, or groups them otherwise"),
        ("model.freeze=features", "leave optimizer.layer_decay, optimizer.decay_norms_and_biases, model.freeze"),
    ],
)
@pytest.mark.slow
def test_an_optimizer_that_can_not_use_the_saved_state_is_refused(word: str, message: str, convoy: Convoy) -> None:
    assert convoy("train", *TINY, "trainer.max_steps=1", "trainer.test=false").code == 0
    refused = convoy("train", "resume=run", "trainer.max_steps=2", word)
    assert refused.code == 2
    assert message in refused.err
    remedy = "model.pretrained=" + refused.err.strip().rpartition("model.pretrained=")[2]
    assert convoy("train", *TINY, "trainer.max_steps=1", word, remedy, folder="new").code == 0
