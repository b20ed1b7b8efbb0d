"""Mistakes of users who know other tools, and Hydra's sweeps and flags."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest
from tests.conftest import TINY, Run

from convoy.commands.declaration import arguments
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
        (
            ["logger=wandb", "logger.wandb.project=lab/cnn"],
            "must not contain /; omit it; an entity is written as logger.wandb.entity",
        ),
        (["task=segmentation"], "omit task, or choose data with targets of the kind mask"),
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "latest"], "latest: report has no such key; did you mean run=latest?"),
        (["report", "outputs/a"], "outputs/a: report has no such key; did you mean run=outputs/a?"),
        (["runs", "output_root=notes.txt"], "output_root=notes.txt: is not a folder; name a new folder"),
        (["predict", "run=latest", "images", "output=notes.txt"], "output=notes.txt: is not a folder; name a new"),
        (["predict", "run=latest", "images", "output=notes.txt/x"], "output=notes.txt/x: notes.txt is a file, not a"),
        (["filters", "run=latest", "output=notes.txt"], "output=notes.txt: is not a folder; name a new folder"),
        (["features", "run=latest", "output=notes.txt/x/y"], "output=notes.txt/x/y: notes.txt is a file, not a folder"),
        (["lr", "output=notes.txt"], "output=notes.txt: is not a folder; name a new folder"),
        (["data", "data=digits", "output=notes.txt/a.html"], "notes.txt is a file, not a folder; name a path in a"),
        (["pack", "data=digits", "output=notes.txt/x"], "notes.txt is a file, not a folder; name a path in a folder"),
        (["lr", "lowset=1"], "lowset=1: lr has no such key; did you mean lowest?"),
        (["search", "study=digits_lr", "trails=3"], "trails=3: search has no such key; did you mean trials?"),
        (["search", "study=digits_lr", "folder=x"], "folder=x: applies to a single run, not to a study; omit folder"),
        (["search", "study=notes.txt"], "study=notes.txt: is not a study's YAML file; its name ends in .yaml"),
        (["search", "study=images"], "to continue the study in it, write resume=images"),
        (["search", "study=broken.yaml"], "); repair the file, or name another"),
        (["train", "folder=notes.txt"], "folder=notes.txt: is a file; choose another folder"),
        (["train", "data=table", "data.file=no.csv"], "data.file=no.csv: does not exist; give a CSV, TSV"),
        (["train", *TINY, "loss=dice"], "loss: doesn't take logits [B, 10] and class indices [B] ("),
        (["train", *TINY, "loss=lovasz"], "); write loss=cross_entropy or loss=focal"),
        (["train", *TINY, "metric=boundary_f1"], "); omit metric=boundary_f1"),
        (["train", "~optimizer"], "~optimizer: a key can't be deleted; write optimizer=<option>"),
        (["evaluate", "checkpoint=notes.ckpt"], "checkpoint=notes.ckpt: can't be read (it is no checkpoint); name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_of_any_verb_is_one_message_and_nothing_is_written(
    words: list[str], message: str, convoy: Convoy, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "notes.txt").write_text("hello\n")
    (tmp_path / "broken.yaml").write_text("space: [\n")
    (tmp_path / "notes.ckpt").write_bytes(b"nonsense")
    before = sorted(tmp_path.rglob("*"))
    done = convoy(*words, folder=None)
    assert done.code == 2
    assert message in done.err
    assert "\\n" not in done.err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_remedy_for_a_run_that_has_done_its_steps_works_as_it_is_written(convoy: Convoy) -> None:
    """Both limits end at the tenth step, so that one larger limit is not enough."""
    words = (*TINY, "trainer.max_epochs=1", "trainer.max_steps=10", "trainer.test=false")
    assert convoy("train", *words).code == 0
    refused = convoy("train", "resume=run")
    assert refused.code == 2
    remedy = refused.err.partition("such as ")[2].split()
    assert remedy == ["trainer.max_steps=20", "trainer.max_epochs=2"]
    moved = convoy("train", "resume=run", *remedy, "folder=new")
    assert "folder=new: can't be changed: a resumed run stays in its folder; omit it" in moved.err
    resumed = convoy("train", "resume=run", *remedy)
    assert resumed.code == 0, resumed.err
    assert resumed.summary()["steps"] == 20


def test_the_home_folder_within_a_word_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Shells leave ~ in `output_root=~/runs`, and a folder of that name is easily removed with the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    parsed = arguments.parse(["output_root=~/runs", "folder=~x", "name=~/a"])
    assert parsed.overrides == [f"output_root={tmp_path}/runs", "folder=~x", "name=~/a"]
