"""Mistakes of users who know other tools, and Hydra's sweeps and flags."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatch

import pytest
from tests.conftest import Run

from convoy.config.faults import UserError
from convoy.config.options import CONF
from convoy.config.sweep_points import points

Convoy = Callable[..., Run]


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["batch_size=64"], "write trainer.global_batch_size=64"),
        (["trainer.batch_size=64"], "write trainer.global_batch_size=64"),
        (["lr=1e-3"], "write optimizer.lr=1e-3"),
        (["trainer.devices=2"], "write trainer.gpus=2"),
        (["trainer.precision=bf16"], "write trainer.precision=bf16-mixed"),
        (["trainer.precision=16"], "write trainer.precision=16-mixed"),
        (["scheduler=cosine_annealing"], "write scheduler=cosine"),
        (["data=./photos"], "data=./photos: no such folder"),
        (["--model", "vgg16"], "write model=vgg16"),
        (["--modle=vgg16"], "did you mean model=vgg16?"),
        (["train"], "remove it"),
        (["--config-name=x"], "choose options instead"),
        (["logger.tensorboard.folder=x"], "logger.tensorboard is null, so it has no keys; add logger=tensorboard"),
        (["logger=csv", "logger.wandb.mode=offline"], "add logger=wandb"),
        (["cluster.account=abc"], "choose one with cluster=<option>"),
        (["model.pooling=[]"], "model.pooling=[]: must be text"),
        (["hydra/launcher=joblib"], "add -m workers=2 for runs at the same time, or use convoy submit -m for Slurm"),
        (["hydra.sweeper.n_trials=20"], "convoy search 'optimizer.lr=interval(0.001,0.1)' trials=20"),
        (["-m", "model=vgg16,lenet5", "hydra/sweeper=optuna"], "for a grid, add -m; to draw values, convoy search"),
        (["-m", "model=glob(nosuch*)"], "no option matches"),
        (["-m", "optimizer.lr=interval(0.01,0.1)"], "convoy search 'optimizer.lr=interval(0.01,0.1)'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_prints_a_remedy_without_a_stack_trace(convoy: Convoy, words: list[str], remedy: str) -> None:
    done = convoy("train", *words, folder=None)
    assert done.code == 2
    assert remedy in done.err
    assert "Traceback" not in done.err


def test_glob_selects_the_options_whose_file_names_match() -> None:
    names = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if fnmatch(path.name, "resnet*.yaml"))
    assert len(names) > 1
    assert points(["model=glob(resnet*)", "seed=1"]) == [[f"model={name}", "seed=1"] for name in names]


def test_glob_of_a_key_is_refused() -> None:
    with pytest.raises(UserError, match="glob selects options of a group"):
        points(["optimizer.lr=glob(*)"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.pooling={new: 1}", "model.pooling={'new': 1}: must be text"),
        ("+model.pooling.new=1", "+model.pooling.new=1: model.pooling is a value, so it has no keys"),
        ('data.std=${oc.decode:"1"}', "data.std=1: must be a list; write data.std=[…]"),
        ('data.augment=${oc.decode:"1"}', "data.augment=1: must be a mapping"),
        ('logger.wandb=${oc.decode:"1"}', "logger.wandb=1: must be a mapping"),
        ("optimizer.lr=nan", "optimizer.lr=nan: must be a finite number"),
        ("task.mixup=inf", "task.mixup=inf: must be a finite number"),
        ("trainer.clip_grad_norm=nan", "trainer.clip_grad_norm=nan: must be a finite number"),
        ("scheduler.warmup_epochs=1e9", "scheduler.warmup_epochs=1000000000.0: must be at most 1e+06"),
        ("hardware.cpu_threads=100000", "hardware.cpu_threads=100000: must be at most 4096"),
    ],
)
def test_a_value_of_the_wrong_type_or_size_is_one_error(
    convoy: Callable[..., Run], override: str, message: str
) -> None:
    done = convoy("train", override)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert not done.folder.exists()
