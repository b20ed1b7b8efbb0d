"""The verbs as one meets them: help, evaluate, sweeps, and mistakes."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import TINY, Run, needs_fashion_mnist

from convoy.commands.main import VERBS
from convoy.config.cards import ModelCard, read_cards
from convoy.config.options import CONF, Options
from convoy.config.schema import GROUPS

Convoy = Callable[..., Run]


def test_help_shows_each_verb_with_an_example(convoy: Convoy) -> None:
    for words in ((), ("--help",)):
        done = convoy(*words) if words else convoy("help")
        assert done.code == 0
        assert all(f"convoy {verb}" in done.out for verb in VERBS)


def test_train_help_lists_every_group_with_its_options_in_80_columns(convoy: Convoy) -> None:
    text = convoy("train", "--help").out
    words = text.replace(",", " ").split()
    for group in GROUPS:
        assert group in words
        assert all(option in words for option in Options().of(group))
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("group", GROUPS)
def test_help_of_a_group_describes_each_option(convoy: Convoy, group: str) -> None:
    text = convoy("train", "--help", group).out
    cards = read_cards(ModelCard) if group == "model" else {}
    for option in Options().of(group):
        if option in cards:
            assert option in text.replace(",", " ").split()
            continue
        first_line = next(
            line for line in (CONF / group / f"{option}.yaml").read_text().splitlines() if not line.startswith("# @")
        )
        assert first_line.lstrip("# ") in text


def test_the_composed_config_can_be_shown_whole_or_in_part(convoy: Convoy) -> None:
    assert "lr: ${oc.select:model.lr.sgd,0.1}" in convoy("train", "--cfg", "job", folder=None).out
    part = convoy("train", "model=vgg16", "--cfg=job", "--resolve", "-p", "optimizer", folder=None).out
    assert "lr: 0.005\n" in part
    assert convoy("train", "--cfg", "job", "-p", "optimiser", folder=None).code == 2
    assert "write --cfg job, which shows everything" in convoy("train", "--cfg=all", folder=None).err


@pytest.mark.parametrize(
    "words",
    [
        ("tran",),
        ("train", "trainer.gpu=2", "modle=vgg16"),
        ("train", "trainer.gpus=99"),
        ("train", "data=image_folder", "data.root=nowhere"),
        ("train", "model=alexnet"),
        ("train", "model=timm", "model.name=resnet1"),
        ("train", "optimizer._target_=torch.optim.Sgd"),
        ("train", "+optimizer.momentun=0.9"),
        ("train", "trainer.global_batch_size=4000"),
        ("train", "logger.wandb.mode=online"),
        ("train", "--config-dir", "nowhere"),
        ("train", "--cfg", "hydra"),
        ("train", "--cfg", "all"),
        ("train", "-m", "model=vgg16"),
        ("train", "-m", "model=vgg16,vgg99"),
        ("train", "resume=latest"),
        ("evaluate",),
        ("evaluate", "run=nowhere"),
        ("evaluate", "run=latest", "split=dev"),
        ("evaluate", "run=latest", "model=vgg16"),
        ("export",),
        ("export", "run=nowhere"),
        ("export", "run=latest"),
        ("export", "run=latest", "format=onyx"),
        ("export", "run=latest", "fold_bn"),
        ("index",),
        ("index", "tars=nowhere"),
        ("index", "tars=nowhere", "val_fraction=1"),
        ("index", "tars=nowhere", "lable=cls"),
        ("index", "tars=s3://bucket/prefix"),
        ("pack",),
        ("pack", "data=image_folder", "output=packed"),
        ("pack", "data=image_folder", "data.root=nowhere", "output=packed"),
        ("pack", "data=digits", "output=packed"),
        ("pack", "data=image_folder", "outptu=packed"),
        ("pack", "data=image_folder", "output=packed", "format=jpg"),
        ("pack", "data=image_folder", "output=packed", "size=0"),
        ("pack", "data=image_folder", "output=packed", "shard_mib=5000"),
        ("pack", "data=image_foldr", "output=packed"),
        ("pack", "verify=nowhere"),
        ("pack", "verify=nowhere", "size=3"),
        ("train", "data=shards", "data.root=nowhere"),
        ("train", "data=shards"),
        ("predict",),
        ("predict", "checkpoint=nowhere", "1.png"),
        ("predict", "checkpoint=nowhere.onnx", "1.png"),
        ("predict", "run=latest"),
        ("predict", "run=latest", "1.png", "top=0"),
        ("predict", "run=latest", "1.png", "format=tabel"),
        ("predict", "chekpoint=latest", "1.png"),
    ],
)
def test_a_mistake_ends_in_one_message_exit_code_2_and_nothing_written(convoy: Convoy, words: tuple[str, ...]) -> None:
    done = convoy(*words, folder=None)
    assert done.code == 2
    assert done.err.startswith(("error: ", "2 errors:"))
    assert "Traceback" not in done.err + done.out
    assert done.out == ""
    assert list(Path().iterdir()) == []


def test_commands_without_training_do_not_import_its_libraries() -> None:
    """A typo, help, a config."""
    code = "import sys\nfrom convoy.commands.main import main\nmain(sys.argv[1:])"
    libraries = "torch torchvision torchmetrics pytorch_lightning timm wandb numpy scipy sklearn matplotlib PIL rich"
    heavy = f"print(sorted(set({libraries.split()}) & set(sys.modules)))"
    wrong_layers = ["train", "model=vgg16", "model.layers=[CNOV3-64]"]
    wrong_format = ["export", "run=latest", "format=onyx"]
    no_output = ["pack", "data=image_folder", "data.root=nowhere"]
    refused = (["train", "modle=vgg16"], wrong_layers, wrong_format, no_output, ["predict"])
    config = ["train", "model=resnet18", "data=fashion_mnist", "--cfg", "job"]
    for words in (*refused, ["--help"], ["train", "--help"], config):
        done = subprocess.run(
            [sys.executable, "-c", f"{code}\n{heavy}", *words], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[-1] == "[]"


def test_train_py_without_its_packages_says_what_to_do() -> None:
    """With -I and -S, Python finds the standard library only."""
    script = Path(__file__).resolve().parents[2] / "train.py"
    done = subprocess.run([sys.executable, "-I", "-S", str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "source .venv/bin/activate" in done.stderr


def test_train_py_is_convoy_train() -> None:
    script = Path(__file__).resolve().parents[2] / "train.py"
    done = subprocess.run([sys.executable, str(script), "modle=vgg16"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: modle=vgg16: no such key; did you mean model?\n")


def test_evaluate_finds_the_test_metrics_of_the_run_again(convoy: Convoy) -> None:
    run = convoy("train", *TINY, "trainer.ema_decay=0.9")
    again = convoy("evaluate", "run=run")
    assert again.code == 0, again.err
    record = json.loads(Path("run/evaluation-digits-test.json").read_text())
    summary = run.summary()
    for name in ("test/top1", "test/top5", "test/loss"):
        assert record[name] == pytest.approx(summary[name], rel=1e-6)
    assert record["per_class"] == pytest.approx(summary["test/per_class"])
    assert f"{summary['test/top1']:.2%}" in again.out


def test_evaluate_takes_other_splits_and_checkpoints(convoy: Convoy) -> None:
    run = convoy("train", *TINY)
    last = [row for row in run.rows() if row["val/loss"]][-1]
    assert convoy("evaluate", "run=run", "split=val", "checkpoint=last").code == 0
    record = json.loads(Path("run/evaluation-digits-val.json").read_text())
    assert record["val/loss"] == pytest.approx(float(last["val/loss"]), rel=1e-5)
    assert convoy("evaluate", "run=run/checkpoints/last.ckpt", "split=val").code == 0
    assert json.loads(Path("run/evaluation-digits-val.json").read_text()) == record
    assert convoy("evaluate", "run=run", "split=train").code == 0
    record = json.loads(Path("run/evaluation-digits-train.json").read_text())
    assert record["images"] == 1294
    assert record["train/top1"] > 0.5


@needs_fashion_mnist
def test_evaluate_refuses_a_data_set_of_other_classes(convoy: Convoy) -> None:
    convoy("train", *TINY)
    done = convoy("evaluate", "run=run", "data=fashion_mnist")
    assert done.code == 2
    assert "data=fashion_mnist: has classes that train does not have: T-shirt/top" in done.err


def test_evaluate_matches_classes_by_name(convoy: Convoy, tmp_path: Path) -> None:
    """The classes b and d of another folder are those of the run, whatever their order there."""
    generator = np.random.default_rng(1)
    shades = {"a": 20, "b": 90, "c": 160, "d": 230}

    def write(root: str, names: str) -> None:
        for split, name in product(("train", "val"), names):
            folder = tmp_path / root / split / name
            folder.mkdir(parents=True)
            for index in range(8):
                pixels = generator.integers(0, 20, (16, 16, 3)) + shades[name]
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")

    write("all", "abcd")
    write("some", "bd")
    write("more", "bd")
    for split in ("train", "val"):
        (tmp_path / "more" / split / "b").rename(tmp_path / "more" / split / "e")
    words = ["data=image_folder", "data.image_size=16", "data.eval_resize=null", "data.channels=3"]
    words += ["model.layers=[CONV3-8,GAP,FC-32,FC-4]", "trainer.global_batch_size=8", "trainer.max_epochs=40"]
    words += ["optimizer.lr=0.02", "data.augment.random_resized_crop=null"]
    given = [word for word in TINY if not word.startswith(("model", "trainer.max_epochs"))]
    run = convoy("train", *given, *words, "data.root=all", "metric=f1_macro")
    assert run.code == 0, run.err
    assert run.summary()["val/top1"] == 1.0

    done = convoy("evaluate", "run=run", "data.root=some", "split=val")
    assert done.code == 0, done.err
    assert "no images of a, c: these classes have no results" in done.out
    record = json.loads(Path("run/evaluation-image_folder-val.json").read_text())
    assert (record["val/top1"], record["val/f1_macro"]) == (1.0, 1.0)
    assert record["per_class"] == {"a": None, "b": 1.0, "c": None, "d": 1.0}

    done = convoy("evaluate", "run=run", "data.root=more", "split=val")
    assert done.code == 2
    assert (
        "has classes that train does not have: e; remove or rename them; the classes of train are a, b, c, d"
        in done.err
    )


def test_evaluate_refuses_data_of_other_classes(convoy: Convoy, tmp_path: Path) -> None:
    from PIL import Image

    convoy("train", *TINY, "trainer.max_steps=1")
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            Image.new("L", (32, 32)).save(tmp_path / "pets" / split / name / "1.png")
    words = ("data=image_folder", "data.root=pets", "data.channels=1", "data.image_size=32", "split=val")
    done = convoy("evaluate", "run=run", *words, "data.mean=[0.5]", "data.std=[0.5]", "data.augment.flip=false")
    assert done.code == 2
    assert "has classes that train does not have: cat, dog; remove or rename them" in done.err


@pytest.mark.slow
def test_a_sweep_of_four_points_has_a_folder_each_and_survives_one_that_fails(shell: Convoy) -> None:
    words = (*TINY[:1], *TINY[2:], "trainer.max_steps=4", "scheduler=constant", "trainer.gpus=0")
    done = shell("train", "-m", *words, "model.layers=[CONV3-8,POOL4,FC-10],[POOL8,FC-10]", "optimizer.lr=0.1,1e30")
    assert done.code == 1
    (sweep,) = Path("outputs/sweeps").iterdir()
    assert len([path for path in sweep.iterdir() if path.is_dir()]) == 4
    with (sweep / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model.layers"], row["exit_code"]) for row in rows] == [
        ("[CONV3-8,POOL4,FC-10]", "0"),
        ("[CONV3-8,POOL4,FC-10]", "1"),
        ("[POOL8,FC-10]", "0"),
        ("[POOL8,FC-10]", "1"),
    ]
    for row in rows:
        summary = json.loads((Path(row["folder"]) / "summary.json").read_text())
        assert row["val/top1"] == str(summary.get("val/top1", ""))
    # The table stands at the end, after all points.
    table = done.out[done.out.index("model.layers  ") :]
    assert table.count("failed (1)") == 2


def test_a_sweep_checks_every_point_before_it_runs_the_first(convoy: Convoy) -> None:
    done = convoy("train", "-m", *TINY, "optimizer=sgd,adam,sdg", "trainer.max_epochs=1,0", folder=None)
    assert done.code == 2
    assert "did you mean sgd?" in done.err
    assert "trainer.max_epochs=0: must be at least 1" in done.err
    assert not Path("outputs").exists()
