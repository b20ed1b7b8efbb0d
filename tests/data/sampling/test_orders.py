"""Tests of orders in which images occur several times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.data.conftest import MakeData

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.data.check import check_data
from convoy.data.data_module import ImageData
from convoy.data.sampling.orders import Repeated, Weighted, class_weights, most_of_each_class, shared_order
from convoy.data.sampling.samplers import TrainingSampler
from convoy.data.targets import CLASS_INDEX, Targets

LABELS = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)


@pytest.mark.parametrize(
    ("sampler", "shares"),
    [("balanced", [1 / 3] * 3), ("sqrt", [0.7034, 0.2224, 0.0741])],  # 30 : 9.487 : 3.162
)
def test_classes_are_drawn_in_proportion(sampler: str, shares: list[float]) -> None:
    order = Weighted(class_weights(LABELS, sampler))
    drawn = torch.cat([LABELS[order.of_epoch(1, epoch, 1000, 1000).samples] for epoch in range(30)])
    counts = torch.bincount(drawn, minlength=3) / len(drawn)
    expected = torch.tensor(shares)
    assert ((counts - expected).abs() < 4 * (expected * (1 - expected) / len(drawn)).sqrt()).all()


def test_images_of_a_class_are_drawn_equally_often() -> None:
    order = Weighted(class_weights(LABELS, "balanced"))
    drawn = torch.cat([order.of_epoch(1, epoch, 1000, 1000).samples for epoch in range(60)])
    counts = torch.bincount(drawn, minlength=1000)[990:].double()
    assert ((counts - 2000).abs() < 4.5 * 2000**0.5).all()


def test_an_image_occurs_several_times_in_a_batch() -> None:
    sampler = TrainingSampler(100, 3, 10, accumulation=2, world_size=1, shared=Repeated(5))
    batches = list(sampler.micro_batches(0, 0, 5))
    for batch in batches:
        assert sorted(torch.bincount(batch.samples).unique().tolist()) == [0, 5]
    keys = torch.cat([batch.keys for batch in batches])
    assert len(keys.unique()) == 100
    assert len(torch.cat([batch.samples for batch in batches]).unique()) == 20


@pytest.mark.parametrize("changes", [{"sampler": "balanced"}, {"sampler": "sqrt"}, {"repeats": 4}])
@pytest.mark.parametrize("source", ["memory", "folder"])
def test_a_resumed_epoch_and_two_ranks_read_the_same(
    source: str, changes: dict[str, Any], digits_folder: Path, folder_data: MakeData
) -> None:
    if source == "folder":
        data = folder_data(digits_folder, augment=AugmentConfig(flip=True, cutout=4), **changes)
    else:
        data = digits_config(**changes)
    whole, split = opened(data, 12), opened(data, 6)
    batches = list(whole.training_loader(0))
    resumed = list(whole.training_loader(2))
    for ours, again in zip(batches[2:], resumed, strict=True):
        assert torch.equal(ours.images, again.images)
        assert torch.equal(ours.targets, again.targets)
    ranks = [list(split.training_loader(0, rank=rank, world_size=2)) for rank in range(2)]
    for batch, first, second in zip(batches, *ranks, strict=True):
        assert torch.equal(batch.images, torch.cat([first.images, second.images]))


def digits_config(**changes: Any) -> DataConfig:
    return DataConfig(
        name="digits",
        source="digits",
        channels=1,
        image_size=32,
        mean=[0.3],
        std=[0.3],
        augment=AugmentConfig(pad_crop=2, rotation=20),
        **changes,
    )


def opened(data: DataConfig, micro_batch_size: int) -> ImageData:
    module = ImageData(data, seed=3, micro_batch_size=micro_batch_size, accumulation=1, eval_batch_size=50)
    module.open()
    return module


@pytest.mark.parametrize("source", ["memory", "folder"])
def test_copies_of_an_image_are_augmented_differently(source: str, digits_folder: Path, folder_data: MakeData) -> None:
    if source == "folder":
        data = folder_data(digits_folder, augment=AugmentConfig(random_resized_crop=[0.3, 1.0]), repeats=3)
    else:
        data = digits_config(repeats=3)
    batch = next(iter(opened(data, 12).training_loader(0)))
    for copies in batch.images.split(3):
        assert len(copies.flatten(1).unique(dim=0)) == 3
    assert (batch.targets.view(-1, 3) == batch.targets.view(-1, 3)[:, :1]).all()


def test_max_per_class_limits_the_training_images_only(digits_folder: Path, folder_data: MakeData) -> None:
    module = opened(digits_config(max_per_class=7), 10)
    assert module.class_counts().tolist() == [7] * 10
    assert (module.sizes["val"], module.sizes["test"]) == (144, 359)
    folder = opened(folder_data(digits_folder, max_per_class=4), 4)
    assert folder.class_counts().tolist() == [4] * len(folder.classes)


def test_the_images_of_a_class_are_the_same_in_every_run_and_nested() -> None:
    few, more = most_of_each_class(LABELS, 5), most_of_each_class(LABELS, 50)
    assert torch.bincount(LABELS[more]).tolist() == [50, 50, 10]
    assert set(few.tolist()) < set(more.tolist())
    assert torch.equal(few, few.sort().values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "balance"}, "data.sampler=balance: must be none, balanced or sqrt; did you mean balanced?"),
        ({"repeats": 0}, "data.repeats=0: must be at least 1"),
        ({"repeats": 2, "sampler": "sqrt"}, "data.repeats=2: can't be combined with data.sampler"),
        ({"source": "shards", "max_per_class": 3}, "data.max_per_class=3: can't be used with shards"),
        ({"source": "table", "target": "values", "sampler": "sqrt"}, "data.sampler=sqrt: needs classes"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    settings = {"name": "x", "source": "digits", "channels": 1, "image_size": 32, "mean": [0.3], "std": [0.3]}
    faults = check_data(DataConfig(**settings | changes), present=False)
    assert any(str(fault).startswith(message) for fault in faults), [str(fault) for fault in faults]


def test_a_note_names_classes_of_different_size() -> None:
    module = opened(digits_config(), 10)
    assert module.notes == ()
    labels = LABELS[torch.randperm(1000, generator=torch.Generator().manual_seed(1))]
    targets = Targets(CLASS_INDEX, ("0", "1", "2"))
    module._opened = replace(module._set, training_targets=labels, targets=targets)
    (note,) = module.notes
    assert note.startswith("train has 10 (2) to 900 (0) images per class; data.sampler=balanced")


def test_classes_must_be_known() -> None:
    with pytest.raises(UserError, match=r"data\.sampler=balanced: needs the class of each training image"):
        shared_order(digits_config(sampler="balanced"), None)
