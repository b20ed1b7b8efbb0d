"""Values with special characters, as they were typed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from PIL import Image
from tests.conftest import TINY, Run

from convoy.config.compose import compose
from convoy.config.foreign_words import KEYS, VALUES
from convoy.config.hydra_errors import known_keys
from convoy.config.options import Options
from convoy.config.override_text import parse_override
from convoy.config.schema import GROUPS
from convoy.config.sweep_points import points

Convoy = Callable[..., Run]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("data.root=/x/we ird [x]=1 ü/set", "/x/we ird [x]=1 ü/set"),
        ("model.pretrained=ck/a=1/epoch=3-step=10.ckpt", "ck/a=1/epoch=3-step=10.ckpt"),
        ("data.root=~/photos", "~/photos"),
        ("data.root=it's", "it's"),
        ("data.root=C:\\data\\été\\", "C:\\data\\été\\"),
        ("name=1e5", "1e5"),
        ("name=true", "true"),
        ("resume=runs/a=1 (copy)", "runs/a=1 (copy)"),
        ("logger.wandb.notes=50 % more; faster!", "50 % more; faster!"),
        ("+model.note=a=b", "a=b"),
    ],
)
def test_a_text_value_is_used_as_typed(text: str, value: str) -> None:
    override = parse_override(text)
    assert override.value() == value
    assert override.input_line == text


def test_any_text_that_the_grammar_refuses_is_taken_as_typed() -> None:
    """Seeded random texts of the characters with a meaning in Hydra's grammar, YAML or a shell."""
    draw = random.Random(20261129)
    characters = "ab/.-= []{}()'\"\\$:;!#&*?é,~%@^`|<>"
    refused = 0
    for _ in range(3000):
        value = "".join(draw.choices(characters, k=draw.randint(1, 12)))
        try:
            OverridesParser.create().parse_override(f"data.root={value}").value()
        except HydraException:
            refused += 1
            assert parse_override(f"data.root={value}").value() == value
    assert refused > 1000


@pytest.mark.parametrize(
    "text", ["trainer.max_steps=[3", "model.layers=[CONV3", "tags=[a", "trainer.gpus=a=b", "vgg16"]
)
def test_other_values_keep_the_grammar(text: str) -> None:
    with pytest.raises(HydraException):
        parse_override(text)


def test_lists_null_interpolations_and_sweeps_are_read_as_before() -> None:
    assert parse_override("data.root=null").value() is None
    assert parse_override("data.mean=[0.5]").value() == [0.5]
    assert compose(["name=${model.name}"]).name == "lenet5"
    assert points(["name=a,b", "data.root=x=1"]) == [["name=a", "data.root=x=1"], ["name=b", "data.root=x=1"]]


def test_special_characters_work_from_the_command_line_to_the_end(convoy: Convoy) -> None:
    folder = Path("we ird [x]=1 ü")
    for name in ("a", "b"):
        for number in range(8):
            path = folder / "train" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (32, 32), number * 8 + 100 * (name == "b")).save(path)
    words = (*TINY[:1], "model.layers=[CONV3-8,POOL4,FC-2]", *TINY[2:], "trainer.max_steps=2", "data.channels=1")
    data = ("data.image_size=32", "data.eval_resize=null", "data.mean=[0.5]", "data.std=[0.5]", "data.num_workers=1")
    words = (*words, *data, "trainer.global_batch_size=4", "data.val_fraction=0.25", "trainer.test=false")
    done = convoy("train", f"data={folder}/", *words, "folder=out=1 [a]", folder=None)
    assert done.code == 0, done.err
    checkpoint = Path("out=1 [a]/checkpoints/last.ckpt")
    copy = Path("epoch=3-step=10.ckpt")
    copy.write_bytes(checkpoint.read_bytes())
    done = convoy("train", f"data={folder}", *words, f"model.pretrained={copy}", folder="second")
    assert done.code == 0, done.err
    done = convoy("train", "resume=out=1 [a]", "trainer.max_steps=4", folder=None)
    assert done.code == 0, done.err
    assert convoy("evaluate", "run=out=1 [a]", "split=val", f"data={folder}", folder=None).code == 0


def test_data_takes_a_folder_of_shards_too(convoy: Convoy) -> None:
    for name in ("a", "b"):
        for number in range(8):
            path = Path("photos/train", name, f"{number}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (number, 200, 100)).save(path)
    done = convoy("pack", "data=photos", "output=packed", folder=None)
    assert done.code == 0, done.err
    shown = convoy("train", "--cfg", "job", "data=./packed", folder=None).out
    assert "source: shards" in shown
    assert "root: packed" in shown


def test_data_takes_a_folder_of_hugging_face_and_names_the_index_of_tar_files(convoy: Convoy) -> None:
    from datasets import Dataset

    Dataset.from_dict({"label": [0, 1]}).save_to_disk("saved")
    shown = convoy("train", "--cfg", "job", "data=./saved", folder=None).out
    assert "source: huggingface" in shown
    done = convoy("train", "data=ylecun/mnist", folder=None)
    assert done.err.endswith("a set of the Hugging Face Hub is data=huggingface data.root=ylecun/mnist\n")
    Path("tars").mkdir()
    Path("tars/0.tar").touch()
    done = convoy("train", "data=tars", folder=None)
    assert done.err == "error: data=tars: has tar files without an index; index them first: convoy index tars=tars\n"


def test_every_word_of_another_tool_leads_to_a_key_that_exists() -> None:
    known = {*known_keys(compose([])), *GROUPS}
    assert {key: target for key, target in KEYS.items() if target not in known} == {}
    assert [key for key in KEYS if key in known] == []


@pytest.mark.parametrize("key", [key for key in VALUES if key in GROUPS])
def test_every_option_of_another_tool_leads_to_an_option_that_exists(key: str) -> None:
    assert set(VALUES[key].values()) <= set(Options().of(key))


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["epochs=5"], "trainer.max_epochs=5"),
        (["--epochs", "5"], "trainer.max_epochs=5"),
        (["--batch-size=64"], "trainer.global_batch_size=64"),
        (["lr=0.1"], "optimizer.lr=0.1"),
        (["--weight-decay", "0.001"], "optimizer.weight_decay=0.001"),
        (["trainer.label_smoothing=0.1"], "loss.label_smoothing=0.1"),
        (["arch=resnet18"], "model=resnet18"),
        (["--model", "resnet18"], "model=resnet18"),
        (["trainer.devices=1"], "trainer.gpus=1"),
        (["trainer.precision=fp16"], "trainer.precision=16-mixed"),
        (["trainer.gpus=cpu"], "trainer.gpus=0"),
        (["scheduler=CosineAnnealingLR"], "scheduler=cosine"),
        (["num_workers=2"], "data.num_workers=2"),
        (["patience=3"], "trainer.early_stopping_epochs=3"),
        (["mixup_alpha=0.2"], "task.mixup=0.2"),
        (["seed_everything=3"], "seed=3"),
        (["precision=bf16"], "trainer.precision=bf16-mixed"),
        (["--precision", "fp32"], "trainer.precision=32"),
        (["early_stopping=true"], "trainer.early_stopping_epochs=10"),
        (["ema=True"], "trainer.ema_decay=0.999"),
        (["trainer.sam_radius=true"], "trainer.sam_radius=0.05"),
        (["callback=EarlyStopping"], "trainer.early_stopping_epochs=10"),
        (["reprob=0.25"], "data.augment.erasing=0.25"),
        (["logger=csv,tensorboard"], "logger=[csv,tensorboard]"),
    ],
)
def test_the_advice_for_words_of_other_tools_works(convoy: Convoy, words: list[str], remedy: str) -> None:
    refused = convoy("train", *words, folder=None)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.rstrip().endswith(f"write {remedy}")
    assert convoy("train", "--cfg", "job", remedy, folder=None).code == 0
