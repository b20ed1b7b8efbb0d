"""Writing of checkpoints, and a last.ckpt and best.ckpt that disagree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, Run

from convoy.runs.layout import RunFolder
from convoy.runs.whole_files import WriteError
from convoy.training.checkpoint_files import restore_best, save, step_of

Convoy = Callable[..., Run]

SAVE = """
import resource, sys, torch
from pathlib import Path
from convoy.training.checkpoint_files import save
content = {"state_dict": {str(n): torch.ones(2_500_000) for n in range(20)}, "global_step": 1}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
save(content, Path(sys.argv[1]), [Path(sys.argv[2])])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_a_checkpoint_is_not_copied_in_memory_nor_to_the_temporary_folder(tmp_path: Path) -> None:
    """The checkpoint has 200 MB."""
    last, best, temporary = tmp_path / "last.ckpt", tmp_path / "best.ckpt", tmp_path / "gone"
    environment = {**os.environ, "TMPDIR": str(temporary)}
    words = [sys.executable, "-c", SAVE, str(last), str(best)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) < 40  # MiB
    assert step_of(last) == step_of(best) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "best.ckpt"}


def test_a_checkpoint_that_can_not_be_written_changes_nothing(tmp_path: Path) -> None:
    last = tmp_path / "last.ckpt"
    save({"global_step": 1}, last)
    tensor = torch.ones(1000)
    with pytest.raises(WriteError) as caught:
        save({"global_step": 2, "one": tensor, "same": tensor[:3]}, last, [tmp_path / "no folder" / "best.ckpt"])
    assert caught.value.filename == str(tmp_path / "no folder" / "best.ckpt")
    assert step_of(last) == 1
    assert list(tmp_path.iterdir()) == [last]


def test_the_best_checkpoint_is_found_among_remaining_ones(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    save({"global_step": 10}, run.best)
    save({"global_step": 30}, run.last)
    save({"global_step": 20}, run.checkpoints / "step-20.ckpt")
    assert restore_best(run, 20)
    assert step_of(run.best) == 20
    run.best.write_bytes(run.best.read_bytes()[:200])  # damaged
    assert restore_best(run, 30)
    assert step_of(run.best) == 30
    assert not restore_best(run, 7)


@pytest.fixture
def torn(convoy: Convoy) -> dict[str, object]:
    """Leave a run whose process died after last.ckpt and before best.ckpt was renamed; return the whole's summary."""
    words = (*TINY, "scheduler=constant", "optimizer.lr=0.03")
    assert convoy("train", *words, "trainer.max_epochs=1").code == 0
    shutil.copyfile("run/checkpoints/best.ckpt", "before.ckpt")
    whole = convoy("train", "resume=run", "trainer.max_epochs=2")
    assert whole.code == 0, whole.err
    summary = dict(Run(0, "", "", Path("run")).summary())
    assert summary["best_step"] == 20
    Path("run/checkpoints/best.ckpt").unlink()
    shutil.move("before.ckpt", "run/checkpoints/best.ckpt")
    Path("run/summary.json").unlink()
    return summary


def test_a_run_that_died_between_last_and_best_tests_the_best(convoy: Convoy, torn: dict[str, object]) -> None:
    resumed = convoy("train", "resume=run")
    assert resumed.code == 0, resumed.err
    again = Run(0, "", "", Path("run")).summary()
    assert {name: again[name] for name in again if name.startswith(("test/", "val/", "best_"))} == {
        name: torn[name] for name in torn if name.startswith(("test/", "val/", "best_"))
    }
    assert step_of(Path("run/checkpoints/best.ckpt")) == 20


@pytest.mark.usefixtures("torn")
def test_a_best_checkpoint_that_is_lost_is_reported(convoy: Convoy) -> None:
    """The run is resumed from the end of the second epoch, after the third was the best, and trains one more."""
    assert convoy("train", "resume=run", "trainer.max_epochs=3").code == 0
    last = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    (state,) = [value for name, value in last["callbacks"].items() if name.startswith("Checkpoints")]
    state["best_step"] = 10
    torch.save(last, "run/checkpoints/last.ckpt")
    Path("run/checkpoints/best.ckpt").unlink()
    resumed = convoy("train", "resume=run", "trainer.max_epochs=4")
    assert resumed.code == 0, resumed.err
    assert "best.ckpt is not the checkpoint of step 10, the best so far, and no other is" in resumed.out
    assert Run(0, "", "", Path("run")).summary()["best_step"] == 40
