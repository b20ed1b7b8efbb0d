"""Tests of lists of the splits, against the image folder with the same images and torchvision's Food101."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import Food101

from convoy.config.faults import UserError
from convoy.data.check import check_data, num_targets
from convoy.data.opening.file_splits import file_splits
from convoy.data.opening.open_data import open_data


def write_lists(folder: Path, line: str, *splits: str) -> None:
    """Move the images of each split below `folder`/images, and list them; `line` is a format of path and class."""
    for split in splits:
        lines = []
        for path in sorted((folder / split).rglob("*.jpg")):
            kind = path.parent.name
            moved = folder / "images" / kind / f"{split} {path.name}"
            moved.parent.mkdir(parents=True, exist_ok=True)
            path.rename(moved)
            lines.append(line.format(path=moved.relative_to(folder), kind=kind))
        for path in sorted((folder / split).glob("**/"), reverse=True):
            path.rmdir()
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n\n")


@pytest.mark.parametrize("line", ["{path}", "{path} {kind}", "{path}\t{kind}"])
def test_lists_are_the_same_as_folders(digits_folder: Path, folder_data: Any, line: str) -> None:
    expected = file_splits(folder_data(digits_folder))
    contents = {split: [Path(path).read_bytes() for path in files.paths] for split, files in expected.splits.items()}
    write_lists(digits_folder, line, "train", "val")
    data = folder_data(digits_folder)
    assert num_targets(data) == 3
    assert check_data(data) == []
    found = file_splits(data)
    assert found.targets == expected.targets
    assert {split: files.targets for split, files in found.splits.items()} == {
        split: files.targets for split, files in expected.splits.items()
    }
    assert contents == {
        split: [Path(path).read_bytes() for path in files.paths] for split, files in found.splits.items()
    }
    assert f"the images are those of {digits_folder}/train.txt, {digits_folder}/val.txt." in found.notes


def test_val_is_held_out_of_a_list(digits_folder: Path, folder_data: Any) -> None:
    write_lists(digits_folder, "{path}", "train", "val")
    (digits_folder / "val.txt").rename(digits_folder / "test.txt")
    assert open_data(folder_data(digits_folder, val_fraction=0.25), 1).sizes == {"train": 45, "val": 15, "test": 29}
    folds = [open_data(folder_data(digits_folder, folds=3, fold=fold), 1).sizes["val"] for fold in range(3)]
    assert sum(folds) == 60


def test_val_is_held_out_of_folders_with_a_test_split(digits_folder: Path, folder_data: Any) -> None:
    (digits_folder / "val").rename(digits_folder / "test")
    assert open_data(folder_data(digits_folder, val_fraction=0.25), 1).sizes == {"train": 45, "val": 15, "test": 29}


def test_food101_is_read_as_torchvision_reads_it(tmp_path: Path, folder_data: Any) -> None:
    root = tmp_path / "food-101"
    (root / "meta").mkdir(parents=True)
    lists: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for number in range(12):
        kind, split = ("pie", "cake")[number % 2], "train" if number < 8 else "test"
        (root / "images" / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9, 3), number * 20, np.uint8)).save(root / "images" / kind / f"{number}.jpg")
        lists[split].setdefault(kind, []).append(f"{kind}/{number}")
    for split, by_class in lists.items():
        (root / "meta" / f"{split}.json").write_text(json.dumps(by_class))
        text = "\n".join(name for names in by_class.values() for name in names)
        (root / "meta" / f"{split}.txt").write_text(text)
    data = folder_data(root / "images", split_files="../meta", val_fraction=0.25)
    found = file_splits(data)
    for split, ours in (("train", ("train", "val")), ("test", ("test",))):
        theirs = Food101(tmp_path, split=split)
        assert found.targets.names == tuple(theirs.classes)
        expected = {str(path): label for path, label in zip(theirs._image_files, theirs._labels, strict=True)}
        read = [zip(found.splits[name].paths, found.splits[name].targets, strict=True) for name in ours]
        assert {path: label for pairs in read for path, label in pairs} == expected


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("val.txt", "images/zero/no.jpg\n", r"val.txt, line 1: .*/no.jpg does not exist \(1 image of 1 missing\)"),
        ("val.txt", "images/dog/1.jpg\n", "val.txt has classes that .*train.txt does not have: dog; add training"),
        ("val.txt", "\n", "val.txt is empty; write one path per line, or remove the file"),
        ("val.txt", "1.jpg\n", r"val.txt, line 1 has no class \('1.jpg'\); write the class after each path"),
        ("train.txt", "", "train.txt is empty; write one path per line"),
        ("train.txt", "no.jpg cat\n", "train.txt, line 1: neither no.jpg cat nor no.jpg exists; the paths"),
        ("train.txt", "zero/train 000.jpg\n", "write data.root=.*/images data.split_files=/.*/digits, the folder"),
        (
            "test.txt",
            "images/zero/val 020.jpg\n",
            r"020.jpg is listed twice: .*val.txt, line \d+, and .*test.txt, line 1",
        ),
    ],
)
def test_fault_of_a_list(digits_folder: Path, folder_data: Any, file: str, text: str, message: str) -> None:
    write_lists(digits_folder, "{path}", "train", "val")
    (digits_folder / file).write_text(text)
    with pytest.raises(UserError, match=message):
        open_data(folder_data(digits_folder), 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split_files": "meta"}, "data.split_files=meta: .*/meta is not a folder; give the folder of train.txt"),
        ({"split_files": "train"}, "data.split_files=train: .*/train has no train.txt"),
        ({"folds": 2, "fold": 0, "split_files": "."}, "val.txt is a val split, and a fold would replace it"),
        ({"source": "shards", "split_files": "."}, "data.split_files=.: requires data.source=image_folder"),
    ],
)
def test_fault_of_a_setting(digits_folder: Path, folder_data: Any, changes: dict[str, Any], message: str) -> None:
    if changes["split_files"] == ".":
        write_lists(digits_folder, "{path}", "train", "val")
    faults = check_data(folder_data(digits_folder, **changes))
    assert [re.search(message, str(fault)) is not None for fault in faults].count(True) == 1, faults
