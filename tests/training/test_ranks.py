"""Two data-parallel processes on the CPU against one."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import TINY, Run
from tests.training.test_resume import LONG, assert_equal_runs, start, stop_after

Convoy = Callable[..., Run]

pytestmark = pytest.mark.slow


def test_two_processes_train_and_measure_as_one_does(shell: Convoy) -> None:
    """Without dropout and batch norm, which see only their rank's share, all sums are the same.

    144 val and 359 test images in batches of 2 x 64 are ragged, so the metrics show that each counts once.
    """
    words = (*TINY, "model.layers=[CONV3-8,POOL4,FC-32,FC-10]", "trainer.log_every_steps=4")
    one = shell("train", *words, folder="one")
    two = shell("train", *words, "trainer.processes=2", folder="two")
    assert (one.code, two.code) == (0, 0), two.err
    assert "2 ranks" in two.out
    for first, second in zip(one.rows(), two.rows(), strict=True):
        for name, value in first.items():
            assert (value == "") == (second[name] == "")
            if value:
                assert float(second[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name


def test_two_processes_stop_together_and_go_on(shell: Convoy) -> None:
    words = (*LONG, "trainer.processes=2", "trainer.log_every_steps=8")
    assert shell("train", *words, folder="a").code == 0
    process = start(*words, "folder=b")
    out = stop_after(process, Path("b"), 48, signal.SIGTERM)
    assert process.returncode == 143, out
    resumed = shell("train", "resume=b", folder="b")
    assert resumed.code == 0, resumed.err
    assert_equal_runs(Path("a"), Path("b"))


def test_a_loss_that_breaks_ends_both_processes(shell: Convoy) -> None:
    words = (*TINY, "trainer.processes=2", "optimizer.lr=1e18", "scheduler=constant")
    run = shell("train", *words, timeout=120)
    assert run.code == 1
    assert run.out.count("the loss is not finite") == 1
