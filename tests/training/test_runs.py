"""Whole runs: what they give, what they leave, and what every setting does to them."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from tests.conftest import TINY, Run, needs_fashion_mnist

Convoy = Callable[..., Run]


@pytest.mark.slow
def test_the_default_run_reaches_98_percent_on_digits(convoy: Convoy) -> None:
    run = convoy("train", "logger=csv")
    assert run.code == 0
    assert run.summary()["test/top1"] >= 0.98


def test_the_output_says_how_long_a_run_is_and_why_it_has_no_test(convoy: Convoy) -> None:
    run = convoy("train", *TINY, "trainer.max_epochs=1", "trainer.test=false", "trainer.global_batch_size=1294")
    assert "; global batch 1294, 1 epoch of 1 step\n" in run.out
    assert "\nno test: trainer.test=false\n" in run.out


def test_a_run_leaves_everything_that_is_needed_to_read_and_repeat_it(convoy: Convoy) -> None:
    run = convoy("train", *TINY)
    assert run.code == 0, run.err
    files = {str(path.relative_to(run.folder)) for path in run.folder.rglob("*") if path.is_file()}
    assert files == {
        "config.yaml",
        "overrides.yaml",
        "environment.json",
        "metrics.csv",
        "ledger.csv",
        "ledger.json",
        "summary.json",
        ".lock",
        "confusion_matrix.csv",
        "calibration.csv",
        "mistakes.json",
        "run.log",
        "debug.log",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    }
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert config["optimizer"]["lr"] == pytest.approx(config["model"]["lr"]["sgd"])
    assert "${" not in (run.folder / "config.yaml").read_text()
    assert yaml.safe_load((run.folder / "overrides.yaml").read_text()) == [[*TINY, "folder=run", "report=false"]]
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__.split("+")[0]
    here = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    if here.returncode == 0:
        assert environment["git"]["commit"] == here.stdout.strip()
    summary = run.summary()
    rows = run.rows()
    assert float(rows[-1]["test/top1"]) == pytest.approx(summary["test/top1"])
    assert max(float(row["val/top1"]) for row in rows if row["val/top1"]) == pytest.approx(summary["val/top1"])
    assert summary["steps"] == 20
    assert len(summary["test/per_class"]) == 10
    assert list(summary["training_counts"]) == list("0123456789")
    assert sum(summary["training_counts"].values()) == summary["images"]["train"]
    with (run.folder / "confusion_matrix.csv").open(newline="") as file:
        counts = [[int(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]]
    assert sum(map(sum, counts)) == summary["images"]["test"]
    assert sum(counts[i][i] for i in range(10)) / sum(map(sum, counts)) == pytest.approx(summary["test/top1"])


def test_the_terminal_shows_the_config_and_the_result(convoy: Convoy) -> None:
    run = convoy("train", *TINY)
    # Parameters by the formula: 3x3x1x8+8, 512x32+32, 32x10+10.
    assert "16,826 parameters" in run.out
    assert "1,294 train, 144 val, 359 test; 1x32x32, 10 classes" in run.out
    assert "epoch 2/2" in run.out
    assert f"{run.summary()['test/top1']:.2%}" in run.out
    assert "checkpoints/best.ckpt" in run.out
    log = (run.folder / "run.log").read_text()
    assert all(line in log for line in run.out.splitlines() if line.startswith(("model", "data", "epoch")))


def test_checkpoints_hold_plain_containers_and_the_best_is_the_best(convoy: Convoy) -> None:
    run = convoy("train", *TINY, "trainer.max_epochs=4", "optimizer.lr=0.3")
    rows = [row for row in run.rows() if row["val/top1"]]
    best = max(rows, key=lambda row: (float(row["val/top1"]), -float(row["val/loss"])))
    assert run.checkpoint("best")["global_step"] == int(best["step"]) == run.summary()["best_step"]
    assert run.checkpoint("last")["global_step"] == 40


def test_a_run_never_writes_into_anothers_folder(convoy: Convoy) -> None:
    assert convoy("train", *TINY, "trainer.max_steps=1").code == 0
    before = {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")}
    again = convoy("train", *TINY, "trainer.max_steps=1")
    assert again.code == 2
    assert "folder=run: is not empty; choose another, or write resume=run" in again.err
    assert {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")} == before


def test_runs_depend_on_the_seed(convoy: Convoy) -> None:
    first, again, other = (
        convoy("train", *TINY, f"seed={seed}", folder=folder) for seed, folder in ((5, "a"), (5, "b"), (6, "c"))
    )
    assert first.rows() == again.rows()
    assert first.rows() != other.rows()


def test_the_first_limit_that_is_reached_ends_a_run(convoy: Convoy) -> None:
    run = convoy("train", *TINY, "trainer.max_steps=13")
    assert run.summary()["steps"] == 13
    assert [row["step"] for row in run.rows() if row["val/loss"]] == ["10", "13"]


def test_a_time_limit_ends_a_run_with_its_validation_and_test(convoy: Convoy) -> None:
    run = convoy("train", *TINY, "trainer.max_epochs=null", "trainer.max_time=00:00:02", "scheduler=constant")
    assert run.code == 0
    summary = run.summary()
    assert 1 <= summary["seconds"] < 20
    assert int(run.rows()[-2]["step"]) == summary["steps"]
    assert "test/top1" in summary


def test_accumulated_micro_batches_train_as_the_whole_batch_does(convoy: Convoy) -> None:
    layers = "model.layers=[CONV3-8,POOL4,FC-32,FC-10]"
    whole = convoy("train", *TINY, layers, folder="whole")
    parts = convoy("train", *TINY, layers, "trainer.micro_batch_size=32", folder="parts")
    assert parts.summary()["steps"] == whole.summary()["steps"] == 20
    for one, other in zip(whole.rows(), parts.rows(), strict=True):
        for name in ("train/loss", "val/loss", "test/loss"):
            assert (one[name] == "") == (other[name] == "")
            if one[name]:
                assert float(one[name]) == pytest.approx(float(other[name]), rel=1e-4)


def test_gradients_are_clipped_to_the_norm_that_is_set(convoy: Convoy) -> None:
    """One step of plain SGD moves the weights by lr x clipped norm, so its length tells the norm."""
    plain = ("optimizer.momentum=0", "optimizer.nesterov=false", "optimizer.weight_decay=0", "optimizer.lr=0.5")
    words = ("train", *TINY, *plain, "scheduler=constant", "seed=2")
    start = convoy(*words, "trainer.max_steps=1", "optimizer.lr=1e-30", folder="start").checkpoint()["state_dict"]
    end = convoy(*words, "trainer.max_steps=1", "trainer.clip_grad_norm=0.01", folder="end").checkpoint()["state_dict"]
    moved = torch.sqrt(sum(((end[name] - start[name]) ** 2).sum() for name in start))
    assert moved.item() == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_averaged_weights_are_validated_and_saved(convoy: Convoy) -> None:
    """decay 0: the average is the newest weight; so the run equals one without; with 0.9 it lags."""
    plain = convoy("train", *TINY, folder="plain")
    newest = convoy("train", *TINY, "trainer.ema_decay=0.0", folder="newest")
    assert newest.rows() == plain.rows()
    lagging = convoy("train", *TINY, "trainer.ema_decay=0.9", folder="lagging")
    state = lagging.checkpoint()
    assert any(
        not torch.equal(state["state_dict"][name], state["current_model_state"][name]) for name in state["state_dict"]
    )
    for name, value in plain.checkpoint()["state_dict"].items():
        torch.testing.assert_close(state["current_model_state"][name], value)


@pytest.mark.parametrize("setting", ["task.mixup", "task.cutmix", "loss.label_smoothing"])
def test_regularization_raises_the_training_loss_and_still_learns(convoy: Convoy, setting: str) -> None:
    plain = convoy("train", *TINY, folder="plain")
    mixed = convoy("train", *TINY, f"{setting}=0.4", folder="mixed")
    last = [[float(row["train/loss"]) for row in run.rows() if row["train/loss"]][-1] for run in (plain, mixed)]
    assert last[1] > last[0] + 0.05
    assert mixed.summary()["val/top1"] > 0.3


@pytest.mark.slow
def test_early_stopping_ends_a_run_that_does_not_get_better(convoy: Convoy) -> None:
    stuck = ("optimizer.lr=1e-12", "trainer.max_epochs=20", "trainer.early_stopping_epochs=2", "scheduler=constant")
    # A rate too small to change a float32 weight: the first epoch's val/top1 stays the best.
    assert convoy("train", *TINY, *stuck, "optimizer.weight_decay=0").summary()["epochs"] == 3


def test_plateau_divides_the_rate_when_the_validation_error_stays(convoy: Convoy) -> None:
    stuck = ("optimizer.lr=1e-12", "optimizer.weight_decay=0", "trainer.max_epochs=4")
    run = convoy("train", *TINY, *stuck, "scheduler=plateau", "scheduler.patience=0")
    rates = {row["epoch"]: float(row["lr"]) for row in run.rows() if row["lr"] and "." not in row["epoch"]}
    # The first epoch sets the best; each later one without a better error divides by 10.
    assert [rates[epoch] for epoch in ("1", "2", "3", "4")] == pytest.approx([1e-12, 1e-12, 1e-13, 1e-14])


def test_a_nonfinite_loss_stops_the_run_and_reports_the_step(convoy: Convoy) -> None:
    run = convoy("train", *TINY, "optimizer.lr=1e18", "scheduler=constant")
    assert run.code == 1
    assert run.summary()["status"] == "not finite"
    assert "the loss is not finite at step" in run.out
    assert "learning rate 1e+18" in run.out
    assert "no checkpoint had been written" in run.out
    assert list((run.folder / "checkpoints").glob("*.ckpt")) == []


def test_a_loss_that_breaks_later_leaves_the_last_good_checkpoint(convoy: Convoy) -> None:
    words = ("train", *TINY, "optimizer.lr=1e-3", "scheduler=multistep", "scheduler.milestones=[1]")
    run = convoy(*words, "scheduler.gamma=1e22")
    assert run.code == 1
    assert "last good checkpoint: run/checkpoints/last.ckpt, best step 10" in run.out
    state = run.checkpoint()["state_dict"]
    assert all(torch.isfinite(value).all() for value in state.values())


def test_weights_that_the_last_step_breaks_are_not_saved(convoy: Convoy) -> None:
    """The losses of all steps are finite: only another step would show that its weights are not."""
    words = (
        "train",
        *TINY,
        "optimizer.lr=1e-3",
        "scheduler=multistep",
        "scheduler.gamma=1e45",
        "scheduler.interval=step",
    )
    run = convoy(*words, "trainer.max_epochs=null", "trainer.max_steps=2", "scheduler.milestones=[1]")
    assert run.code == 1
    assert "stopped: weights are not finite at step 2" in run.out
    assert list((run.folder / "checkpoints").glob("*.ckpt")) == []


def test_bfloat16_on_the_cpu_learns_as_float32_does(convoy: Convoy) -> None:
    run = convoy("train", *TINY, "trainer.precision=bf16-mixed")
    assert run.code == 0
    assert run.summary()["val/top1"] > 0.5


def test_deterministic_and_contiguous_memory_are_settings_that_run(convoy: Convoy) -> None:
    settings = ("trainer.deterministic=true", "trainer.channels_last=false", "trainer.max_steps=2")
    assert convoy("train", *TINY, *settings).code == 0


@needs_fashion_mnist
@pytest.mark.slow
def test_vgg16_trains_on_fashion_mnist(convoy: Convoy) -> None:
    run = convoy(
        "train",
        "model=vgg16",
        "data=fashion_mnist",
        "data.val_fraction=0.01",
        "trainer.global_batch_size=32",
        "trainer.max_steps=12",
        "trainer.test=false",
        "logger=csv",
    )
    assert run.code == 0, run.err
    losses = [float(row["train/loss"]) for row in run.rows() if row["train/loss"]]
    assert torch.isfinite(torch.tensor(losses)).all()
    assert run.summary()["val/loss"] < 2.31
