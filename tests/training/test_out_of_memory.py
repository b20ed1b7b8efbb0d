"""A run that runs out of GPU memory resuming with half the micro batch, from the step it had reached.

There is no GPU here to run out of memory: the error that CUDA would raise is raised by a driver in the process of a
run on the CPU. All that follows is real.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, command, read_rows

from convoy.config.batch import divide
from convoy.training.out_of_memory import smaller

DRIVER = Path(__file__).with_name("out_of_memory_driver.py")
# Without dropout and batch norm a step is the same however its batch is divided.
SAME = (*TINY, "model.layers=[CONV3-8,POOL4,FC-32,FC-10]", "trainer.log_every_steps=4", "trainer.max_epochs=2")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """The rows of a run that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(command(["train", *SAME, "folder=whole"]), cwd=folder, capture_output=True, check=True)
    return read_rows(folder / "whole")


def drive(place: str, step: int, rank: int, *words: str) -> subprocess.CompletedProcess[str]:
    words = ("train", *SAME, *words, "folder=oom")
    return subprocess.run(
        [sys.executable, str(DRIVER), place, str(step), str(rank), *words],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")},
    )


def assert_like(undisturbed: list[dict[str, str]], folder: Path, *, but: Sequence[str] = ()) -> None:
    """The same rows, in the tolerance of sums taken in another order."""
    for first, second in zip(undisturbed, read_rows(folder), strict=True):
        for name, value in first.items():
            if value and name not in but:
                assert float(second[name]) == pytest.approx(float(value), rel=1e-3, abs=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize(("place", "step"), [("forward", 0), ("backward", 13)])
def test_one_process_resumes_from_its_last_step(undisturbed: list[dict[str, str]], place: str, step: int) -> None:
    done = drive(place, step, 0)
    assert done.returncode == 0, done.stderr
    told = f"out of GPU memory after step {step}: resuming with a micro batch of 64 and 2 accumulation steps"
    assert done.stdout.count("out of GPU memory") == done.stdout.count(told) == 1
    assert f"resuming after step {step}" in done.stdout
    assert "micro_batch_size: 64" in Path("oom/config.yaml").read_text()
    assert_like(undisturbed, Path("oom"))
    assert torch.load("oom/checkpoints/last.ckpt", weights_only=True)["global_step"] == 20


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_all_ranks_continue_if_one_fails_and_another_waits(undisturbed: list[dict[str, str]], rank: int) -> None:
    """In the forward pass, so that the other rank waits for its gradients and never comes to a step's end."""
    done = drive("forward", 13, rank, "trainer.processes=2")
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.count("resuming with a micro batch of 32 and 2 accumulation steps") == 1
    # The row's sums up to the fault are those of one rank: the other can't be asked any more.
    assert_like(undisturbed, Path("oom"), but=("train/loss", "train/top1"))


@pytest.mark.slow
def test_a_step_that_was_under_way_is_not_kept(undisturbed: list[dict[str, str]]) -> None:
    """Weights that may be updated in part are not saved: it goes on from the last checkpoint, here from the start."""
    done = drive("update", 1, 0)
    assert done.returncode == 0, done.stderr
    assert "resuming after step" not in done.stdout
    assert_like(undisturbed, Path("oom"))


@pytest.mark.slow
def test_validation_continues_with_half_its_batch(undisturbed: list[dict[str, str]]) -> None:
    done = drive("validation", 10, 0)
    assert done.returncode == 0, done.stderr
    assert "resuming with trainer.eval_batch_size=128" in done.stdout
    assert_like(undisturbed, Path("oom"))


@pytest.mark.slow
def test_one_image_cannot_be_halved() -> None:
    done = drive("forward", 3, 0, "trainer.micro_batch_size=1", "trainer.global_batch_size=2")
    assert done.returncode == 1
    assert "choose a card with more memory" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("sizes", "micro"),
    [((256, None, 1), 128), ((256, 64, 2), 32), ((90, 9, 1), 3), ((7, None, 1), 1), ((7, 1, 1), None)],
)
def test_the_next_micro_batch_keeps_the_global_batch(sizes: tuple[int, int | None, int], micro: int | None) -> None:
    assert smaller(divide(*sizes)) == micro
