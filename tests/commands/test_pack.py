"""convoy pack, and a run, a ledger and a plan with what it wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.conftest import TINY, Run

Convoy = Callable[..., Run]


@pytest.fixture
def _flowers(tmp_path: Path) -> None:
    """12 dark asters and 12 bright lilies, of which a quarter is to be held out for val."""
    for name, level in (("aster", 20), ("lily", 160)):
        (tmp_path / "flowers" / name).mkdir(parents=True)
        for number in range(12):
            image = Image.new("RGB", (60 + number, 50), (level + 5 * number, level, 9))
            image.save(tmp_path / "flowers" / name / f"{number}.png")


@pytest.mark.slow
@pytest.mark.usefixtures("_flowers")
def test_pack_then_train_from_shards(convoy: Convoy) -> None:
    words = ("pack", "data=image_folder", "data.root=flowers", "data.val_fraction=0.25", "output=packed", "size=40")
    done = convoy(*words, "shard_mib=0.01")
    assert done.code == 0, done.err
    assert "6 images of train were held out for val" in done.out
    assert "18 train, 6 val images of 2 classes in" in done.out
    assert "written train-000001.tar" in done.out
    again = convoy(*words, "shard_mib=0.01")
    assert again.code == 0, again.err
    assert "kept    train-000001.tar" in again.out
    assert "written" not in again.out
    assert "all checksums match" in convoy("pack", "verify=packed").out

    shards = ("data=shards", "data.root=packed", "data.image_size=32", "data.eval_resize=40", "data.shuffle_buffer=8")
    network = ("model.layers=[CONV3-8,POOL4,FC-2]", "trainer.global_batch_size=4", "scheduler=constant")
    run = convoy("train", *TINY, *shards, *network)
    assert run.code == 0, run.err
    assert run.summary()["images"] == {"train": 18, "val": 6, "test": 0}
    assert run.summary()["steps"] == 8
    assert "has no test split" in run.out
    # Stopped in the middle of the second epoch and resumed, it is the same run.
    convoy("train", *TINY, *shards, *network, "trainer.max_steps=6", folder="half")
    assert convoy("train", "resume=half", "trainer.max_steps=8", folder="half").code == 0
    whole, resumed = run.checkpoint(), Run(0, "", "", Path("half").absolute()).checkpoint()
    assert whole["global_step"] == resumed["global_step"] == 8
    assert whole["state_dict"].keys() == resumed["state_dict"].keys()
    assert all(torch.equal(tensor, resumed["state_dict"][name]) for name, tensor in whole["state_dict"].items())
    assert convoy("evaluate", "run=run", "split=train").code == 0
    assert json.loads(Path("run/evaluation-shards-train.json").read_text())["images"] == 18

    assert convoy("ledger", "model=resnet18", *shards).code == 0
    plan = convoy("plan", "model=resnet18", *shards, "hardware=v100", "trainer.global_batch_size=8")
    assert plan.code == 0, plan.err


@pytest.mark.usefixtures("_flowers")
def test_pack_refuses_special_files_and_names_absent_classes(convoy: Convoy, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "flowers" / "aster" / "pipe.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "flowers").rename(tmp_path / "set" / "train")
    (tmp_path / "set" / "val" / "lily").mkdir(parents=True)
    Image.new("RGB", (60, 50)).save(tmp_path / "set" / "val" / "lily" / "0.png")
    words = ("pack", "data=image_folder", "data.root=set", "output=packed", "size=40")
    done = convoy(*words)
    assert done.code == 2
    assert "aster/pipe.png can't be decoded (is a named pipe); repair or remove it, or set" in done.err
    done = convoy(*words, "data.on_bad_image=skip")
    assert done.code == 0, done.err
    assert "val of set has no images of aster; their results are empty." in done.out

    shards = ("data=shards", "data.root=packed", "data.image_size=32", "data.eval_resize=40")
    run = convoy("train", *TINY, *shards, "model.layers=[CONV3-8,POOL4,FC-2]", "trainer.global_batch_size=4")
    assert run.code == 0, run.err
    assert run.summary()["images"] == {"train": 24, "val": 1, "test": 0}
    assert "val of packed has no images of aster; their results are empty." in run.out


def test_a_set_that_is_elsewhere_is_planned_by_its_number_of_classes(convoy: Convoy) -> None:
    for root in ("nowhere", "s3://nowhere/packed"):
        done = convoy("ledger", "model=resnet18", "data=shards", f"data.root={root}", "data.num_classes=7")
        assert done.code == 0, done.err
    assert "write data.num_classes=" in convoy("ledger", "model=resnet18", "data=shards").err


def test_help_has_an_example(convoy: Convoy) -> None:
    done = convoy("pack", "--help")
    assert done.code == 0
    assert "convoy pack data=image_folder data.root=photos output=photos256" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
