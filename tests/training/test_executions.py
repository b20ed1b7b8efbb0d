"""Several steps in one of Lightning's: the same run, bit for bit."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, Run
from tests.training.test_resume import LONG, assert_equal_runs, start, stop_after

from convoy.training.classifier import Classifier
from convoy.training.executions import lengths

Convoy = Callable[..., Run]

STATEFUL = (
    "trainer.micro_batch_size=32",
    "trainer.ema_decay=0.98",
    "trainer.mixup=0.2",
    "trainer.clip_grad_norm=0.5",
    "ledger.norms_every_steps=2",
)


@pytest.mark.parametrize(
    ("first", "end", "most", "due", "expected"),
    [
        (0, 10, 4, [100], [4, 4, 2]),
        (0, 10, 100, [3], [3, 3, 3, 1]),
        (5, 12, 4, [3, 4], [1, 2, 1, 3]),  # to 6, 8, 9, 12
        (7, 7, 4, [3], []),
    ],
)
def test_an_execution_ends_where_something_is_due(
    first: int, end: int, most: int, due: list[int], expected: list[int]
) -> None:
    assert lengths(first, end, most, due) == expected


@pytest.mark.parametrize(
    "words",
    [
        STATEFUL,
        ("optimizer=adamw", "trainer.precision=bf16-mixed", "scheduler=plateau", "scheduler.patience=0"),
        ("model=resnet20", "data.image_size=16", "trainer.max_steps=7", "trainer.checkpoint_every_steps=2"),
    ],
    ids=["stateful", "bfloat16", "batch norm"],
)
def test_it_is_the_same_run(convoy: Convoy, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows (losses, rates, validation), weights, schedule, average and norms, by fewer steps of Lightning's."""
    calls = []
    step = Classifier.training_step
    monkeypatch.setattr(Classifier, "training_step", lambda *given: (calls.append(1), step(*given))[1])
    counts = []
    for folder, steps in (("one", 1), ("four", 4)):
        tiny = [word for word in TINY if not (word.startswith("model.layers") and "model=resnet20" in words)]
        run = convoy("train", *tiny, *words, f"trainer.steps_per_execution={steps}", folder=folder)
        assert run.code == 0, run.err
        counts.append(len(calls))
        calls.clear()
    assert 0 < counts[1] < counts[0]
    averaged = ("current_model_state",) if "trainer.ema_decay=0.98" in words else ()
    assert_equal_runs(Path("one"), Path("four"), averaged)
    one, four = (torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True) for name in ("one", "four"))
    assert four["global_step"] == one["global_step"]
    assert four["callbacks"]["Schedule"] == one["callbacks"]["Schedule"] != {}
    if Path("one/norms.csv").is_file():
        assert Path("four/norms.csv").read_text() == Path("one/norms.csv").read_text()


def test_a_run_goes_on_with_other_executions_and_with_none(convoy: Convoy) -> None:
    """Stopped within an epoch, where an execution of its own end is due; weights and their average are the same."""
    words = (*TINY, *STATEFUL, "scheduler=constant")
    assert convoy("train", *words, folder="whole").code == 0
    assert convoy("train", *words, "trainer.steps_per_execution=4", "trainer.max_steps=7", folder="parts").code == 0
    again = convoy("train", "resume=parts", "trainer.max_steps=13", "trainer.steps_per_execution=2")
    assert again.code == 0, again.err
    last = convoy("train", "resume=parts", "trainer.max_steps=null", "trainer.steps_per_execution=1")
    assert last.code == 0, last.err
    whole, parts = (torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True) for name in ("whole", "parts"))
    assert whole["global_step"] == parts["global_step"] == 20
    for kind in ("state_dict", "current_model_state"):
        assert all(torch.equal(value, parts[kind][name]) for name, value in whole[kind].items())


@pytest.mark.slow
def test_a_signal_is_heard_between_two_executions() -> None:
    process: subprocess.Popen[str] = start(*LONG, "trainer.steps_per_execution=5", "folder=run")
    out = stop_after(process, Path("run"), 81, signal.SIGTERM)
    assert process.returncode == 143, out
    assert "to go on: convoy train resume=run" in out
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["global_step"] >= 81


def test_layers_are_measured_on_as_many_passes(convoy: Convoy) -> None:
    words = (
        "trainer.max_epochs=12",
        "ledger.measure_steps=20",
        "trainer.micro_batch_size=64",
        "trainer.log_every_steps=50",
    )
    run = convoy("train", *TINY, *words, "trainer.steps_per_execution=7")
    assert run.code == 0, run.err
    assert "the medians of 21 passes" in (run.folder / "ledger.json").read_text()
    assert run.summary()["images_per_s"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("trainer.steps_per_execution=0",), "trainer.steps_per_execution=0: must be at least 1"),
        (("trainer.steps_per_execution=4", "trainer.processes=2"), "is for one device, and this run has 2"),
    ],
)
def test_what_can_not_be_is_refused(convoy: Convoy, words: tuple[str, ...], message: str) -> None:
    run = convoy("train", *TINY, *words)
    assert run.code == 2
    assert message in run.err
