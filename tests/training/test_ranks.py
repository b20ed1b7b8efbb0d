"""Two data-parallel processes on the CPU against one."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import TINY, Run
from tests.training.test_resume import LONG, assert_equal_runs, start, stop_after

Convoy = Callable[..., Run]


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


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on(shell: Convoy) -> None:
    words = (*LONG, "trainer.processes=2", "trainer.log_every_steps=8")
    assert shell("train", *words, folder="a").code == 0
    process = start(*words, "folder=b")
    out = stop_after(process, Path("b"), 48, signal.SIGTERM)
    assert process.returncode == 143, out
    resumed = shell("train", "resume=b", folder="b")
    assert resumed.code == 0, resumed.err
    assert_equal_runs(Path("a"), Path("b"))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_images_left_out_are_counted_once_over_all_ranks(processes: int, shell: Convoy, tmp_path: Path) -> None:
    for name in ("aster", "lily"):
        (tmp_path / "flowers" / "train" / name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (40, 40), (20 * number, 9, 9)).save(
                tmp_path / "flowers" / "train" / name / f"{number}.png"
            )
    broken = [tmp_path / "flowers" / "train" / name / "11.png" for name in ("aster", "lily")]
    for path in broken:
        path.write_bytes(path.read_bytes()[:60])
    run = shell(
        "train",
        *TINY,
        "model.layers=[CONV3-8,POOL4,FC-2]",
        "data=image_folder",
        "data.root=flowers",
        "data.image_size=32",
        "data.on_bad_image=skip",
        "data.val_fraction=0.25",
        "trainer.global_batch_size=4",
        f"trainer.processes={processes}",
    )
    assert run.code == 0, run.err
    assert run.summary()["skipped_images"] == 2
    assert "2 images could not be decoded" in run.out
    assert all(str(path.relative_to(tmp_path)) in (run.folder / "run.log").read_text() for path in broken)


@pytest.mark.slow
def test_a_loss_that_breaks_ends_both_processes(shell: Convoy) -> None:
    words = (*TINY, "trainer.processes=2", "optimizer.lr=1e18", "scheduler=constant")
    run = shell("train", *words, timeout=120)
    assert run.code == 1
    assert run.out.count("the loss is not finite") == 1
