"""Every verb that uses a trained network needs only its checkpoint, wherever it was copied."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.conftest import TINY, Run

Convoy = Callable[..., Run]


@pytest.fixture
def lone(convoy: Convoy, tmp_path: Path) -> Path:
    """A copy of a run's checkpoint in a folder of its own, the run's folder being gone."""
    assert convoy("train", *TINY).code == 0
    copy = tmp_path / "elsewhere" / "mine.ckpt"
    copy.parent.mkdir()
    (tmp_path / "run" / "checkpoints" / "best.ckpt").rename(copy)
    (tmp_path / "run").rename(tmp_path / "away")
    return copy


def test_a_copied_checkpoint_is_enough_for_every_verb(convoy: Convoy, lone: Path) -> None:
    summary = json.loads(Path("away/summary.json").read_text())
    Image.new("L", (32, 32)).save("photo.png")
    folder = lone.parent
    written = {
        "evaluate": folder / "evaluation-digits-test.json",
        "export": folder / "export" / "mine.safetensors",
        "features": folder / "features" / "digits-penultimate-test" / "features.npy",
        "probe": folder / "probe-digits-penultimate.json",
        "filters": folder / "report" / "filters.png",
    }
    for verb, path in written.items():
        done = convoy(verb, f"checkpoint={lone}", folder=None)
        assert done.code == 0, done.err
        assert path.is_file(), verb
    assert json.loads(written["evaluate"].read_text())["test/top1"] == summary["test/top1"]
    done = convoy("predict", f"checkpoint={lone}", "photo.png", "top=10", folder=None)
    assert done.code == 0, done.err
    assert len(done.out.splitlines()) == 1 + 10
    assert not Path("run").exists()


def test_a_copied_checkpoint_gives_a_network_its_first_weights(convoy: Convoy, lone: Path) -> None:
    words = (*TINY, "optimizer.lr=1e-30", "model.pretrained=elsewhere/mine.ckpt")
    done = convoy("train", *words, "trainer.max_steps=1")
    assert done.code == 0, done.err
    before = torch.load(lone, weights_only=True)["state_dict"]
    after = done.checkpoint()["state_dict"]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "run: must be set; write run=<run folder> or run=latest, or checkpoint=<file>"),
        (("checkpoint=last",), "run: must be set"),
        (("checkpoint=nowhere.ckpt",), "checkpoint=nowhere.ckpt: no such file"),
        (("checkpoint=some",), "checkpoint=some: is a folder; write run=some"),
        (("run=nowhere",), "run=nowhere: no such run"),
    ],
)
@pytest.mark.parametrize("verb", ["evaluate", "export", "features", "filters", "predict", "probe"])
def test_every_verb_finds_a_run_in_the_same_way(convoy: Convoy, verb: str, words: tuple[str, ...], said: str) -> None:
    Path("some").mkdir()
    images = ("photo.png",) if verb == "predict" else ()
    done = convoy(verb, *words, *images, folder=None)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_other_data_is_prepared_as_the_runs_images_were(convoy: Convoy) -> None:
    """The run's normalization, size and channels are used for another set, except where the user overrides them."""
    assert convoy("train", *TINY, "data.mean=[0.25]", "data.std=[0.75]", "data.image_size=16").code == 0
    assert convoy("evaluate", "run=run", "split=val", folder=None).code == 0
    own = json.loads(Path("run/evaluation-digits-val.json").read_text())
    # The same images under another name.
    done = convoy("evaluate", "run=run", "split=val", "data=digits", "data.name=other", folder=None)
    assert done.code == 0, done.err
    other = json.loads(Path("run/evaluation-other-val.json").read_text())
    assert other["val/loss"] == own["val/loss"]
    done = convoy("evaluate", "run=run", "split=val", "data.image_size=64", folder=None)
    assert done.code == 2
    assert "data=digits: the network does not take images of 1x64x64" in done.err
    assert "Traceback" not in done.err
