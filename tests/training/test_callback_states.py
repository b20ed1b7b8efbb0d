"""The state of each callback in a checkpoint of an epoch's end is that after the epoch, a user's callbacks included."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import TINY, Run, read_rows
from tests.training.test_resume import assert_equal_runs
from tests.training.test_signals import ended, paused

Convoy = Callable[..., Run]

LIGHTNING = "pytorch_lightning.callbacks"
STOPPING = f"_target_:{LIGHTNING}.EarlyStopping,monitor:val/top1,mode:max,patience:2"
SAVING = f"_target_:{LIGHTNING}.ModelCheckpoint,monitor:val/loss,save_top_k:2,save_last:true"
WORDS = (
    *TINY,
    "optimizer.lr=1e-12",
    "optimizer.weight_decay=0",
    "scheduler=constant",
    "trainer.max_epochs=6",
    f"+callback.stopping={{{STOPPING}}}",
    f"+callback.saving={{{SAVING}}}",
)
"""A run of 10 steps per epoch that improves nothing, so that EarlyStopping ends it after the third epoch."""


def states(folder: Path) -> dict[str, Any]:
    """Return the states of all callbacks in last.ckpt as text.

    Without times, and without the score of ModelCheckpoint's last save, which Lightning saves but doesn't load.
    """
    found = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]
    for state in found.values():
        for name in ("elapsed_s", "seconds", "current_score"):
            state.pop(name, None)
    return {name: repr(state).replace(str(folder.absolute()), "") for name, state in found.items()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("undisturbed"))
        Path("sent").touch()
        process = paused("summary", "train", *WORDS, "folder=run")
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, out
        yield Path("run").absolute()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "call", "number"),
    [
        ("training", 21, signal.SIGKILL),  # the first step of the third epoch
        ("validation", 2, signal.SIGTERM),  # that of the second epoch: each has one batch
        ("test", 1, signal.SIGKILL),
    ],
)
def test_a_users_callbacks_continue_from_the_end_of_the_epoch(
    stage: str, call: int, number: int, undisturbed: Path, shell: Convoy
) -> None:
    process = paused(stage, "train", *WORDS, "folder=run", call=call)
    out = ended(process, number)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), out
    resumed = shell("train", "resume=run")
    assert resumed.code == 0, resumed.err
    assert max(int(row["step"]) for row in read_rows(undisturbed)) == 30
    assert_equal_runs(undisturbed, Path("run"))
    assert states(Path("run")) == states(undisturbed)
    assert {path.name for path in Path("run/lightning").rglob("*")} == {
        path.name for path in (undisturbed / "lightning").rglob("*")
    }


def test_two_callbacks_with_one_name_in_the_checkpoint_are_refused(convoy: Convoy) -> None:
    run = convoy("train", *WORDS, "trainer.early_stopping_epochs=2")
    assert run.code == 2
    assert "callback.stopping=pytorch_lightning.callbacks.EarlyStopping: saves its state under the same name" in run.err
    assert "remove callback.stopping or trainer.early_stopping_epochs" in run.err
    assert not run.folder.exists()
