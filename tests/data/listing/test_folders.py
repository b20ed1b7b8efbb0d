"""Tests of image folders against torchvision's ImageFolder and written-out cases."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets import ImageFolder

from convoy.config.faults import UserError
from convoy.data.listing.folders import count_classes, find_layout, list_images, read_classes
from convoy.data.opening.open_data import open_data


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_files_classes_and_labels_are_those_of_torchvision(digits_folder: Path) -> None:
    touch(digits_folder / "train", "two/deeper/x.PNG", "two/notes.txt", "one/.hidden.jpg", ".cache/x.jpg")
    layout = find_layout(str(digits_folder))
    classes = read_classes(layout)
    files = list_images(layout.train, classes)
    reference = ImageFolder(
        str(layout.train),
        is_valid_file=lambda path: (
            "hidden" not in path and "cache" not in path and path.lower().endswith((".jpg", ".png"))
        ),
        allow_empty=True,
    )
    assert list(classes) == [name for name in reference.classes if not name.startswith(".")]
    shift = len(reference.classes) - len(classes)
    expected = sorted((path, label - shift) for path, label in reference.samples)
    assert sorted(zip(files.paths, files.targets, strict=True)) == expected
    assert count_classes(str(digits_folder)) == 3


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_layout(tmp_path: Path, val: str) -> None:
    touch(tmp_path, "train/a/x.jpg", f"{val}/a/x.jpg", "test/a/x.jpg")
    layout = find_layout(str(tmp_path))
    assert (layout.train, layout.val, layout.test) == (tmp_path / "train", tmp_path / val, tmp_path / "test")
    assert layout.notes == ()


def test_root_itself_is_train(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.jpg", "b/x.jpg")
    layout = find_layout(str(tmp_path))
    assert (layout.train, layout.val, layout.test) == (tmp_path, None, None)


def test_test_folder_without_labels_is_no_test_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/x.jpg", "val/a/x.jpg", "test/0001.jpg")
    layout = find_layout(str(tmp_path))
    assert layout.test is None
    assert layout.notes == (f"{tmp_path}/test has no class folders, so it is not a test split.",)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ([], "has no class folders"),
        (["x.jpg"], "has no class folders"),
        (["val/a/x.jpg"], "has val/ but no train/"),
        (["val/a/x.jpg", "test/a/x.jpg"], "has val/ and test/ but no train/"),
        (["train/a/x.jpg", "val/a/x.jpg", "val/c/x.jpg"], r"val has classes that \S+/train does not have: c; add"),
        (
            ["train/a/x.jpg", "train/b/x.jpg", *(f"test/{n}/x.jpg" for n in range(7))],
            r"test has classes that \S+/train does not have: 0, 1, 2, 3, 4 and 2 more;",
        ),
    ],
)
def test_faults_of_a_folder(tmp_path: Path, files: list[str], complaint: str) -> None:
    touch(tmp_path, *files)
    with pytest.raises(UserError, match=complaint) as caught:
        count_classes(str(tmp_path))
    assert caught.value.faults[0].key == "data.root"


def test_val_may_lack_a_class_of_train(digits_folder: Path, folder_data: Any) -> None:
    shutil.rmtree(digits_folder / "val" / "one")
    for path in (digits_folder / "val" / "two").iterdir():
        path.unlink()
    opened = open_data(folder_data(digits_folder), 1)
    assert opened.targets.names == ("one", "two", "zero")
    assert opened.sizes == {"train": 60, "val": 10, "test": 0}
    assert opened.evaluation["val"]._pictures.targets.tolist() == [2] * 10  # type: ignore[attr-defined]
    assert f"val of {digits_folder} has no images of one, two; their results are empty." in opened.notes
    shutil.rmtree(digits_folder / "val" / "zero")
    with pytest.raises(UserError, match=r"val has no images; add files ending in"):
        open_data(folder_data(digits_folder), 1)


def test_test_can_be_held_out(digits_folder: Path, folder_data: Any) -> None:
    opened = open_data(folder_data(digits_folder, test_fraction=0.2), 1)
    assert opened.sizes == {"train": 48, "val": 29, "test": 12}
    assert opened.evaluation["test"]._pictures.targets.bincount().tolist() == [4, 4, 4]  # type: ignore[attr-defined]
    assert opened.notes == (f"{digits_folder} has no test split: 12 images of train were held out for test.",)


def test_a_small_part_of_val_images_is_noted(digits_folder: Path, folder_data: Any) -> None:
    note = "val and test see the central 24x24 of 37 pixels only; data.eval_resize=null shows the whole image."
    assert note in open_data(folder_data(digits_folder, eval_resize=37), 1).notes
    assert not any("central" in line for line in open_data(folder_data(digits_folder, eval_resize=36), 1).notes)


def test_missing_root_and_class_without_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"data.root={tmp_path}/no: does not exist"):
        count_classes(f"{tmp_path}/no")
    touch(tmp_path, "train/a/x.jpg", "train/b/x.txt", "file")
    with pytest.raises(UserError, match=r"train/b has no images; remove the folder"):
        list_images(tmp_path / "train", ["a", "b"])
    with pytest.raises(UserError, match="is not a folder"):
        count_classes(f"{tmp_path}/file")


def test_val_is_held_out_if_it_is_missing(digits_folder: Path, folder_data: object) -> None:
    for path in sorted((digits_folder / "val").rglob("*.jpg")):
        path.unlink()
    for path in sorted((digits_folder / "val").rglob("*"), reverse=True):
        path.rmdir()
    (digits_folder / "val").rmdir()
    opened = [open_data(folder_data(digits_folder, val_fraction=0.25), seed) for seed in (1, 2)]  # type: ignore[operator]
    assert opened[0].sizes == {"train": 45, "val": 15, "test": 0}
    assert list(opened[0].evaluation) == ["train", "val"]
    assert "no val split: 15 images of train were held out" in opened[0].notes[0]
    assert "no test split" in opened[0].notes[1]
    # By a seed of its own, not the run's.
    paths = [set(one.train._pictures._files.paths) for one in opened]  # type: ignore[attr-defined]
    assert paths[0] == paths[1]
    assert len(paths[0]) == 45
    held_out = opened[0].evaluation["val"]._pictures  # type: ignore[attr-defined]
    assert paths[0].isdisjoint(held_out._files.paths)
    assert held_out.targets.bincount().tolist() == [5, 5, 5]


def test_checking_and_counting_import_no_torch_and_no_numpy() -> None:
    code = (
        "import sys; from convoy.data.check import check_data, num_targets; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'PIL', 'sklearn')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
