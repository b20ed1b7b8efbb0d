"""Tests of image tables against written-out cases, and against the image folder with the same images."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.data.check import check_data, num_targets
from convoy.data.data_module import ImageData
from convoy.data.opening.file_splits import file_splits
from convoy.data.opening.open_data import open_data
from convoy.data.tables.image_table import read_table

MakeTable = Callable[..., DataConfig]


@pytest.fixture
def table_data(tmp_path: Path) -> MakeTable:
    """Write a table with its images, and return its config."""

    def make(text: str, *, name: str = "labels.csv", encoding: str = "utf-8", **changes: Any) -> DataConfig:
        for shade in range(8):
            Image.new("RGB", (9, 8), (shade * 30, 0, 255)).save(tmp_path / f"{shade}.png")
        (tmp_path / name).write_text(text, encoding=encoding)
        settings: dict[str, Any] = {
            "name": "table",
            "source": "table",
            "file": str(tmp_path / name),
            "image_column": "image",
            "image_size": 8,
            "mean": [0.5],
            "std": [0.25],
            "val_fraction": 0.5,
            "num_workers": 2,
        }
        return DataConfig(**(settings | changes))

    return make


def rows(*cells: str, header: str = "image,kind") -> str:
    """Return the text of a table whose first column names the images 0.png, 1.png, …"""
    return "\n".join([header, *(f"{place}.png,{cell}" for place, cell in enumerate(cells))]) + "\n"


def batch_of(data: DataConfig, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the images and targets of a whole split."""
    module = ImageData(data, seed=1, micro_batch_size=1, accumulation=1, eval_batch_size=100)
    module.open()
    (batch,) = module.evaluation_loader(split)
    return batch.images, batch.targets


def test_class_names_are_sorted_as_text(table_data: MakeTable) -> None:
    data = table_data(rows("10", "9", "10", "b", "9", "b"), target_column="kind")
    table = read_table(data)
    assert table.targets.names == ("10", "9", "b")
    assert table.rows == (0, 1, 0, 2, 1, 2)
    assert [Path(path).name for path in table.paths] == [f"{place}.png" for place in range(6)]
    assert table.lines == (2, 3, 4, 5, 6, 7)
    assert num_targets(data) == 3
    assert check_data(data) == []


def test_labels_in_one_column(table_data: MakeTable) -> None:
    data = table_data(rows("cat|dog", "", " dog ", "ant | cat"), target="multi_hot", target_column="kind")
    assert open_data(data, 1).targets.names == ("ant", "cat", "dog")
    assert read_table(data).rows == ((0, 1, 1), (0, 0, 0), (0, 0, 1), (1, 1, 0))
    _, targets = batch_of(data, "train")
    assert targets.dtype == torch.float32
    assert targets.shape == (2, 3)


@pytest.mark.parametrize("columns", [["wet", "cold"], ["cold"]])
def test_labels_in_columns(table_data: MakeTable, columns: list[str]) -> None:
    text = rows("1,0", "0,True", "1.0,FALSE", "0,0.0", header="image,wet,cold")
    data = table_data(text, target="multi_hot", target_column=columns)
    table = read_table(data)
    expected = {"wet": (1, 0, 1, 0), "cold": (0, 1, 0, 0)}
    assert table.targets.names == tuple(columns)
    assert list(zip(*table.rows, strict=True)) == [expected[name] for name in columns]


@pytest.mark.parametrize("columns", ["x", ["y", "x"]])
def test_values(table_data: MakeTable, columns: str | list[str]) -> None:
    text = rows("1.5,-2", "0,1e3", "7,8", "-1,4", header="image,x,y")
    data = table_data(text, target="values", target_column=columns, split_column=None, val_fraction=0.25)
    given = {"x": [1.5, 0, 7, -1], "y": [-2, 1000, 8, 4]}
    names = [columns] if isinstance(columns, str) else columns
    assert open_data(data, 1).targets.names == tuple(names)
    images, targets = batch_of(data, "train")
    assert targets.dtype == torch.float32
    # The images' shade gives the row that each target must come from.
    places = [round(float(image[0].mean() * 0.25 + 0.5) * 255 / 30) for image in images]
    assert len(places) == 3
    for place, target in zip(places, targets, strict=True):
        assert target.tolist() == [given[name][place] for name in names]


def test_split_column_decides(table_data: MakeTable) -> None:
    text = "split\timage\tkind\n" + "".join(
        f"{split}\t{place}.png\t{kind}\n"
        for place, (split, kind) in enumerate(
            [("train", "a"), ("Test", "a"), ("valid", "b"), ("train", "b"), ("VAL", "b"), ("train", "c")]
        )
    )
    data = table_data(text, name="labels.tsv", target_column="kind", split_column="split", test_fraction=0.4)
    found = {
        name: ([Path(p).stem for p in files.paths], files.targets) for name, files in file_splits(data).splits.items()
    }
    assert found == {"train": (["0", "3", "5"], (0, 1, 2)), "val": (["2", "4"], (1, 1)), "test": (["1"], (0,))}


def test_test_and_val_are_held_out(table_data: MakeTable) -> None:
    data = table_data(rows(*"aabbaabb"), target_column="kind", test_fraction=0.25, val_fraction=0.34)
    splits = file_splits(data).splits
    assert {name: sorted(files.targets) for name, files in splits.items()} == {
        "train": [0, 0, 1, 1],
        "val": [0, 1],
        "test": [0, 1],
    }
    paths = [path for files in splits.values() for path in files.paths]
    assert len(paths) == len(set(paths)) == 8
    assert file_splits(data) == file_splits(data)


def test_byte_order_mark_quotes_and_empty_lines(table_data: MakeTable) -> None:
    text = 'image, kind\n0.png,"a, b"\n\n1.png,"a, b"\n,\n2.png,c\n3.png,c\n'
    table = read_table(table_data(text, encoding="utf-8-sig", target_column="kind"))
    assert table.targets.names == ("a, b", "c")
    assert table.lines == (2, 4, 6, 7)


def test_paths_are_relative_to_root(table_data: MakeTable, tmp_path: Path) -> None:
    text = f"image,kind\n{tmp_path}/0.png,5\nsub/1.png,6\n"
    data = table_data(text, target="values", target_column="kind")
    assert read_table(data).paths == (f"{tmp_path}/0.png", f"{tmp_path}/sub/1.png")
    data.root = "/pictures"
    assert read_table(data).paths == (f"{tmp_path}/0.png", "/pictures/sub/1.png")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": None}, "data.file=null: is missing; give a CSV, TSV, JSON lines"),
        ({"file": "no.csv"}, "data.file=no.csv: does not exist"),
        ({"image_column": None}, "data.image_column=null: is missing; name the column of the image paths; "),
        ({"target_column": None}, "data.target_column=null: is missing; name the column of the target"),
        ({"target_column": "kinds"}, "has no such column; did you mean kind? The columns are image, kind, size"),
        ({"image_column": "zzz"}, "data.image_column=zzz: "),
        ({"split_column": "zzz"}, "has no such column; the columns are image, kind, size"),
        ({"target_column": ["kind", "size"]}, "data.target=class_index reads one column"),
        ({"target": "klass"}, "data.target=klass: is not a kind of target"),
        ({"target": "values"}, "data.target_column=kind: line 2 is not a number ('a'), line 3 is not a number ('b')"),
        ({"target": "multi_hot", "target_column": ["size"]}, "data.target_column=size: line 2 must be 0 or 1 ('3')"),
        ({"split_column": "kind"}, "data.split_column=kind: line 2 must be train, val or test ('a')"),
        ({"num_classes": 4}, "data.num_classes=4: "),
        ({"fit": "pad"}, "data.fit=pad: is for sets whose images have one size"),
        ({"label_separator": ""}, "data.label_separator: must not be empty"),
        ({"test_fraction": 1.0}, "data.test_fraction=1.0: must be at least 0 and less than 1"),
    ],
)
def test_fault_of_a_setting(table_data: MakeTable, changes: dict[str, Any], message: str) -> None:
    text = rows("a,3", "b,4", "a,5", "b,6", header="image,kind,size")
    faults = check_data(table_data(text, **({"target_column": "kind"} | changes)))
    assert any(message in str(fault) for fault in faults), [str(fault) for fault in faults]


@pytest.mark.parametrize(
    ("cells", "changes", "messages"),
    [
        (["a", "", "a"], {}, ["data.target_column=kind: line 3 is empty; correct 1 cell of column kind in"]),
        (
            ["1", "", "x", "inf"],
            {"target": "values"},
            ["line 3 is empty, line 4 is not a number ('x'), line 5 must be a finite"],
        ),
        (
            ["x"] * 9,
            {"target": "values"},
            ["line 6 is not a number ('x') and 4 more; correct 9 cells of column kind in"],
        ),
        (["a", "a", "b"], {}, ["1 class with one image, so none is left for val: b (line 4); remove these rows"]),
        (
            ["1.5", "2", "7"],
            {},
            [
                "3 classes with one image, so none is left for val: 1.5 (line 2), 2 (line 3)",
                "for numbers write task=regression",
            ],
        ),
        (["a", "a"], {}, ["has one class, a"]),
        (["", ""], {"target": "multi_hot"}, ["no row of", "has a label"]),
        (["a,b", "a"], {}, ["line 2 has 3 cells, the header 2"]),
        ([], {}, ["has no rows below its header"]),
    ],
)
def test_fault_of_a_cell(
    table_data: MakeTable, cells: Sequence[str], changes: dict[str, Any], messages: list[str]
) -> None:
    faults = check_data(table_data(rows(*cells), target_column="kind", **changes))
    text = "\n".join(str(fault) for fault in faults)
    assert all(message in text for message in messages), text


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["val", "test", "val"], "has no row for train"),
        (["train", "train", "val"], "no row of train has the class b"),
    ],
)
def test_fault_of_the_splits(table_data: MakeTable, splits: list[str], message: str) -> None:
    cells = [f"{kind},{split}" for kind, split in zip("aab", splits, strict=True)]
    data = table_data(rows(*cells, header="image,kind,split"), target_column="kind", split_column="split")
    assert any(message in str(fault) for fault in check_data(data))


def test_missing_images_are_named_by_line(table_data: MakeTable, tmp_path: Path) -> None:
    data = table_data(rows("a", "a", "b", "b"), target_column="kind")
    (tmp_path / "1.png").unlink()
    (tmp_path / "3.png").unlink()
    assert check_data(data) == []
    with pytest.raises(
        UserError, match=r"line 3: .*/1\.png does not exist \(2 images of 4 missing\); the paths are relative"
    ):
        open_data(data, 1)


def test_named_pipes_are_refused_without_being_opened(table_data: MakeTable, tmp_path: Path) -> None:
    data = table_data(rows("a", "a", "b", "b"), target_column="kind")
    (tmp_path / "1.png").unlink()
    os.mkfifo(tmp_path / "1.png")
    with pytest.raises(UserError, match=r"line 3: .*/1\.png is a named pipe \(1 image of 4 are no files\)"):
        open_data(data, 1)
    Path(str(data.file)).unlink()
    os.mkfifo(str(data.file))
    assert "is a named pipe; give a CSV, TSV, JSON lines" in str(check_data(data)[0])


def test_classes_that_a_split_lacks_are_named(table_data: MakeTable) -> None:
    cells = [f"{kind},{split}" for kind, split in (("a", "train"), ("b", "train"), ("b", "val"), ("a", "test"))]
    data = table_data(rows(*cells, header="image,kind,split"), target_column="kind", split_column="split")
    notes = open_data(data, 1).notes
    assert f"val of {data.file} has no images of a; their results are empty." in notes
    assert f"test of {data.file} has no images of b; their results are empty." in notes


def test_a_missing_split_is_reported(table_data: MakeTable) -> None:
    data = table_data(rows("a", "a", "b", "b"), target_column="kind")
    module = ImageData(data, seed=1, micro_batch_size=1, accumulation=1, eval_batch_size=1)
    module.open()
    assert module.sizes == {"train": 2, "val": 2, "test": 0}
    with pytest.raises(
        UserError, match=r"has no test split; mark its rows test in data.split_column, or set data.test_f"
    ):
        module.evaluation_loader("test")


def test_plans_without_the_file_need_a_number_of_classes(table_data: MakeTable) -> None:
    data = table_data(rows("a", "b"), target_column="kind", file="elsewhere.csv")
    (fault,) = check_data(data, present=False)
    assert str(fault).startswith("data.num_classes=null: can't be counted without the file elsewhere.csv")
    data.num_classes = 5
    assert check_data(data, present=False) == []


def test_the_same_images_as_a_folder(digits_folder: Path, folder_data: Any, tmp_path: Path) -> None:
    lines = ["file,kind,part"]
    lines += [
        f"{path.relative_to(digits_folder)},{path.parent.name},{path.parent.parent.name}"
        for path in sorted(digits_folder.rglob("*.jpg"))
    ]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    columns = {"file": str(tmp_path / "table.csv"), "image_column": "file", "target_column": "kind"}
    modules = []
    for changes in ({}, {"source": "table", "split_column": "part", **columns}):
        data = folder_data(digits_folder, **changes)
        modules.append(ImageData(data, seed=3, micro_batch_size=16, accumulation=1, eval_batch_size=7))
        modules[-1].open()
    folder, table = modules
    assert table.targets == folder.targets
    assert table.sizes == folder.sizes
    for name in ("train", "val"):
        loaders = [
            module.training_loader(0) if name == "train" else module.evaluation_loader(name) for module in modules
        ]
        for ours, theirs in zip(*loaders, strict=True):
            assert torch.equal(ours.images, theirs.images)
            assert torch.equal(ours.targets, theirs.targets)
