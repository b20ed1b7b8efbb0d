"""Tests of data sets of Hugging Face, against what `datasets` gives for the same files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value
from datasets import Image as ImageFeature
from tests.conftest import TINY, Run
from tests.data.dataset_files import NAMES, config, content, content_of, make, picture
from tests.data.loader_checks import check_resume_and_ranks

from convoy.config.faults import UserError
from convoy.data.check import check_data, num_targets
from convoy.data.opening.file_splits import file_splits
from convoy.data.opening.open_data import open_data

pytestmark = pytest.mark.usefixtures("own_cache")


def write(dataset: DatasetDict, root: Path, form: str) -> Path:
    """Write a data set as `datasets` does."""
    if form == "saved":
        dataset.save_to_disk(root)
        return root
    (root / "data").mkdir(parents=True)
    for split, part in dataset.items():
        if form == "parquet":
            part.to_parquet(root / "data" / f"{split}-00000-of-00001.parquet")
        else:
            part.save_to_disk(root / "parts" / split)
            (root / "parts" / split / "data-00000-of-00001.arrow").rename(root / "data" / f"{split}.arrow")
    return root / "data"


@pytest.mark.parametrize("form", ["saved", "parquet", "arrow"])
def test_splits_are_those_of_datasets(tmp_path: Path, form: str) -> None:
    dataset = DatasetDict(train=make(12), validation=make(6, first=20), test=make(9, first=40))
    data = config(write(dataset, tmp_path / "set", form))
    assert check_data(data) == []
    assert num_targets(data) == 3
    assert open_data(data, 1).targets.names == tuple(NAMES)
    for ours, theirs in (("train", "train"), ("val", "validation"), ("test", "test")):
        for found, expected in zip(content(data, ours), content_of(dataset[theirs]), strict=True):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("form", ["saved", "parquet", "arrow"])
def test_one_split_is_divided(tmp_path: Path, form: str) -> None:
    dataset = make(18)
    root = tmp_path / f"set.{form}"
    if form == "saved":
        dataset.save_to_disk(root)
    elif form == "parquet":
        dataset.to_parquet(root)
    else:
        dataset.save_to_disk(tmp_path / "saved")
        root = tmp_path / "saved" / "data-00000-of-00001.arrow"
    data = config(root, val_fraction=1 / 3)
    assert num_targets(data) == 3
    found = [content(data, split) for split in ("train", "val")]
    assert [len(labels) for _, labels in found] == [12, 6]
    images, labels = content_of(dataset)
    expected = {(image.numpy().tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}
    pairs = [pair for part in found for pair in zip(*part, strict=True)]
    assert {(image.numpy().tobytes(), int(label)) for image, label in pairs} == expected


def test_columns_are_found_or_given(tmp_path: Path) -> None:
    ages = [float(number) for number in range(12)]
    tags = [["x"] if number % 2 else ["y", "x"] for number in range(12)]
    numbers = ([number % 4 * 10 for number in range(12)], Value("int64"))
    dataset = make(
        12,
        coarse=([number % 2 for number in range(12)], ClassLabel(names=["a", "b"])),
        age=(ages, Value("float64")),
        tags=(tags, List(Value("string"))),
        kinds=([[0, 2]] * 12, List(ClassLabel(names=NAMES))),
        number=numbers,
        word=(["b", "a"] * 6, Value("string")),
    )
    dataset.save_to_disk(tmp_path / "set")
    data = config(tmp_path / "set", val_fraction=0.25)

    def read(**changes: Any) -> tuple[tuple[str, ...], list[Any]]:
        found = file_splits(replace(data, **changes))
        rows = {
            row: target
            for files in found.splits.values()
            for row, target in zip(files.rows or (), files.targets, strict=True)
        }
        return found.targets.names, [rows[row] for row in sorted(rows)]

    assert "has 2 columns of classes; name one of label, coarse" in str(check_data(data)[0])
    assert read(target_column="coarse") == (("a", "b"), [0, 1] * 6)
    assert read(target_column="number") == (("0", "10", "20", "30"), [0, 1, 2, 3] * 3)
    assert read(target_column="word") == (("a", "b"), [1, 0] * 6)
    assert read(target="values", target_column="age") == (("age",), [(age,) for age in ages])
    assert read(target="values", target_column=["age", "number"])[1][3] == (3.0, 30.0)
    assert read(target="multi_hot", target_column="tags") == (("x", "y"), [(1.0, 1.0), (1.0, 0.0)] * 6)
    assert read(target="multi_hot", target_column="kinds") == (tuple(NAMES), [(1.0, 0.0, 1.0)] * 12)


def test_groups_and_folds(tmp_path: Path) -> None:
    make(12, scene=([f"s{number // 2}" for number in range(12)], Value("string"))).save_to_disk(tmp_path / "set")
    rows: list[int] = []
    for fold in range(3):
        data = config(tmp_path / "set", folds=3, fold=fold, group_column="scene", target_column="label")
        val = file_splits(data).splits["val"].rows or ()
        assert {row // 2 * 2 for row in val} | {row // 2 * 2 + 1 for row in val} == set(val)
        rows += val
    assert sorted(rows) == list(range(12))


def test_a_test_split_without_labels_is_not_used(tmp_path: Path) -> None:
    test = make(3, first=50).map(lambda _: {"label": -1})
    DatasetDict(train=make(12), test=test).save_to_disk(tmp_path / "set")
    opened = open_data(config(tmp_path / "set"), 1)
    assert opened.sizes["test"] == 0
    assert f"the test split of {tmp_path}/set has no labels and is not used." in opened.notes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": None}, "data.root=null: is missing; give a folder that save_to_disk wrote"),
        ({"root": "no/such"}, "data.root=no/such: datasets can't read it ("),
        ({"root": "/no/such"}, "data.root=/no/such: does not exist; give Parquet or Arrow files"),
        ({"root": "./sett"}, "data.root=./sett: does not exist; did you mean set?"),
        ({"root": "sets"}, "data.root=sets: does not exist; did you mean set?"),
        ({"root": "set/train"}, "data.root=set/train: does not exist"),
        ({"root": "labels.csv"}, "is neither a Parquet nor an Arrow file; CSV and JSON lines are read by data=table"),
        ({"root": "broken.parquet"}, "broken.parquet: datasets can't read it ("),
        (
            {"image_column": "image"},
            "has no such column; did you mean img? The columns are img (Image), label (ClassLabel)",
        ),
        ({"image_column": "label"}, "data.image_column=label: has values of type ClassLabel instead of images; choose"),
        ({"target_column": "lable"}, "did you mean label?"),
        ({"target_column": ["label", "age"]}, "reads one column of a data set of Hugging Face"),
        ({"target_column": "age"}, "has numbers with fractions instead of classes; write task=regression"),
        ({"num_classes": 4}, "has 3 classes; write data.num_classes=null"),
        ({"subset": "x", "source": "table"}, "data.subset=x: requires data.source=huggingface"),
    ],
)
def test_fault_of_a_setting(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    make(3, age=([0.5, 1.5, 2.0], Value("float64"))).save_to_disk(tmp_path / "set")
    (tmp_path / "labels.csv").write_text("a,b\n")
    (tmp_path / "broken.parquet").write_text("PAR1")
    faults = check_data(replace(config(tmp_path / "set"), **changes))
    assert any(message in str(fault) for fault in faults), faults


@pytest.mark.parametrize(
    ("columns", "changes", "message"),
    [
        ({}, {"group_column": "scene"}, "data.group_column=scene: .* has no such column; the columns are img, label"),
        (
            {"word": (["a", None, "b"], Value("string"))},
            {"target_column": "word"},
            "row 1 of train is None instead of a class; correct or remove the row",
        ),
        (
            {"age": ([1.0, float("nan"), 2.0], Value("float64"))},
            {"target_column": "age", "target": "values"},
            "row 1 of train is nan instead of finite numbers",
        ),
    ],
)
def test_fault_of_a_column(tmp_path: Path, columns: Any, changes: dict[str, Any], message: str) -> None:
    make(3, **columns).save_to_disk(tmp_path / "set")
    with pytest.raises(UserError, match=message):
        open_data(config(tmp_path / "set", **changes), 1)


def test_splits_without_train(tmp_path: Path) -> None:
    DatasetDict(small=make(6), large=make(6)).save_to_disk(tmp_path / "two")
    assert "has the splits small, large, but no train" in str(check_data(config(tmp_path / "two"))[0])
    DatasetDict(test=make(6)).save_to_disk(tmp_path / "one")
    opened = open_data(config(tmp_path / "one", val_fraction=0.5), 1)
    assert opened.sizes == {"train": 3, "val": 3, "test": 0}
    assert f"{tmp_path}/one has the split test only, which is used for train." in opened.notes


def test_images_that_are_files(tmp_path: Path) -> None:
    paths = []
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
        paths.append(str(tmp_path / f"{number}.png"))
    features = Features({"img": ImageFeature(), "label": ClassLabel(names=NAMES)})
    dataset = Dataset.from_dict({"img": paths, "label": [0, 1, 2] * 2}, features=features)
    data = config(tmp_path / "set", val_fraction=0.5)
    dataset.save_to_disk(data.root)
    images, labels = content(data, "train")
    rows = file_splits(data).splits["train"].rows or ()
    expected = content_of(dataset.select(rows))
    assert torch.equal(images, expected[0])
    assert torch.equal(labels, expected[1])


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    (fault,) = check_data(config(tmp_path))
    assert str(fault) == "data.source=huggingface: needs the package datasets; pip install 'convoy[huggingface]'"
    monkeypatch.setitem(sys.modules, "datasets", ModuleType("datasets"))
    (fault,) = check_data(config(tmp_path))
    assert "a module of the same name hides it" in str(fault)


def test_resume_and_ranks(tmp_path: Path) -> None:
    make(18).save_to_disk(tmp_path / "set")
    check_resume_and_ranks(config(tmp_path / "set", val_fraction=0.2))


@pytest.mark.slow
def test_two_processes_train_on_it(shell: Callable[..., Run], tmp_path: Path) -> None:
    make(24).to_parquet(tmp_path / "set.parquet")
    words = ["data=huggingface", "data.root=set.parquet", "data.image_size=16", "data.eval_resize=16"]
    words += [word for word in TINY if not word.startswith("model")]
    words += ["model.layers=[POOL4,FC-3]", "trainer.global_batch_size=4", "trainer.processes=2"]
    done = shell("train", *words, HF_HOME=str(tmp_path / "home"), HF_HUB_OFFLINE="1")
    assert done.code == 0, done.err
    assert done.summary()["epochs"] == 2
