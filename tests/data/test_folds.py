"""Tests of folds and groups against scikit-learn's splitters and written-out rules."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.data.check import check_data
from convoy.data.listing.image_files import ImageFiles
from convoy.data.opening.held_out import check_training_classes, fold_of, hold_out
from convoy.data.sampling.splits import SPLIT_SEED
from convoy.data.targets import Targets


def images(labels: list[int], groups: list[str] | None = None) -> ImageFiles:
    paths = tuple(f"{number}.png" for number in range(len(labels)))
    return ImageFiles(paths, tuple(labels), groups=None if groups is None else tuple(groups))


LABELS = [0] * 20 + [1] * 10 + [2] * 6
GROUPS = [f"g{number // 3}" for number in range(36)]


def test_folds_are_those_of_scikit_learn() -> None:
    files = images(LABELS)
    splitter = StratifiedKFold(5, shuffle=True, random_state=SPLIT_SEED)
    for fold, (train, val) in enumerate(splitter.split(np.zeros(36), LABELS)):
        kept, held_out = fold_of(files, "class_index", 5, fold)
        assert kept == files.at(train.tolist())
        assert held_out == files.at(val.tolist())


@pytest.mark.parametrize("groups", [None, GROUPS])
@pytest.mark.parametrize("kind", ["class_index", "values"])
def test_each_image_is_in_one_fold(groups: list[str] | None, kind: str) -> None:
    files = images(LABELS, groups)
    folds = [fold_of(files, kind, 4, fold) for fold in range(4)]
    assert sorted(path for _, val in folds for path in val.paths) == sorted(files.paths)
    for train, val in folds:
        assert sorted((*train.paths, *val.paths)) == sorted(files.paths)
        assert 5 <= len(val) <= 13
        if groups is not None:
            assert not set(train.groups or ()) & set(val.groups or ())
        elif kind == "class_index":
            assert Counter(val.targets)[0] == 5


@pytest.mark.parametrize(("fraction", "least", "most"), [(0.1, 3, 6), (0.25, 6, 12), (0.01, 2, 6), (0.99, 30, 34)])
def test_a_share_of_the_groups_is_held_out(fraction: float, least: int, most: int) -> None:
    files = images(LABELS, GROUPS)
    kept, held_out = hold_out(files, "class_index", fraction, "data.val_fraction")
    assert not set(kept.groups or ()) & set(held_out.groups or ())
    assert len(kept) + len(held_out) == 36
    assert least <= len(held_out) <= most
    assert hold_out(files, "class_index", fraction, "data.val_fraction") == (kept, held_out)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3] * 4, [0, *range(15)], list(range(16))])
def test_groups_stay_together_if_no_class_has_an_image_for_each_part(labels: list[int]) -> None:
    kept, held_out = hold_out(images(labels, GROUPS[:16]), "class_index", 0.1, "data.val_fraction")
    assert len(set(held_out.groups or ())) == 1  # of six: the nearest share that groups allow
    assert not set(kept.groups or ()) & set(held_out.groups or ())


def test_a_class_of_one_image_that_is_held_out_with_its_group_is_reported() -> None:
    files = images([0, 1, 2], ["a", "b", "c"])
    kept, _ = hold_out(files, "class_index", 0.1, "data.val_fraction")
    with pytest.raises(UserError, match=r"data\.val_fraction: leaves train without images of"):
        check_training_classes(files, kept, Targets("class_index", ("x", "y", "z")), "data.val_fraction")


@pytest.mark.parametrize(
    ("labels", "groups", "folds", "message"),
    [
        ([0, 1, 0, 1], None, 3, "data.folds=3: is more than the 2 images of the largest class; write at most 2"),
        ([0, 0, 0, 1, 1, 1], ["a", "b"] * 3, 3, "data.folds=3: is more than the 2 groups; write at most 2"),
    ],
)
def test_too_many_folds(labels: list[int], groups: list[str] | None, folds: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fold_of(images(labels, groups), "class_index", folds, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 5}, "data.fold=null: must be 0 to 4 with data.folds=5; to train every fold: -m data.fold=0,1,2,3,4"),
        ({"fold": 1}, "data.fold=1: requires data.folds"),
        ({"folds": 1, "fold": 0}, "data.folds=1: must be at least 2"),
        ({"folds": 3, "fold": 3}, "data.fold=3: must be 0 to 2 with data.folds=3; folds count from 0"),
        ({"folds": 3, "fold": 0}, "val is a val split, and a fold would replace it"),
    ],
)
def test_fault_of_folds(digits_folder: Path, folder_data: Any, changes: dict[str, int], message: str) -> None:
    (fault,) = (fault for fault in check_data(folder_data(digits_folder, **changes)) if message in str(fault))
    assert fault.key.startswith("data.fold")


def test_folds_of_another_source() -> None:
    data = DataConfig(name="digits", source="digits", image_size=32, channels=1, mean=[0.3], std=[0.3], folds=2, fold=0)
    (fault,) = check_data(data)
    assert "data.folds=2: applies only to image folders, tables and data sets of Hugging Face" in str(fault)
