"""Map-style data sets of the user or of torchvision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from convoy.config.data_schema import DataConfig
from convoy.data.check import num_targets
from convoy.data.datasets.dataset_images import DatasetImages, build_dataset, class_positions, dataset_targets
from convoy.data.opening.opened_data import SPLITS, OpenedData
from convoy.data.opening.streamed_data import streamed_data
from convoy.data.sampling.orders import kept_places, unknown_classes
from convoy.data.sampling.splits import stratified_split
from convoy.data.source_names import TORCHVISION_SOURCE
from convoy.data.split_notes import absent_notes, held_out_note, no_test_note
from convoy.data.targets import CLASS_INDEX


def open_dataset(data: DataConfig, seed: int) -> OpenedData:
    """Open the data sets of `data.train` and the other splits, or a set of torchvision.

    Args:
        data: the data config.
        seed: seed of torch's random functions in `__getitem__`.
    """
    build: Callable[[DataConfig, str], Any] = build_dataset
    key = None
    if data.source == TORCHVISION_SOURCE:
        from convoy.data.datasets.torchvision_images import torchvision_set

        build, key = torchvision_set, "data.name"
    return _open(replace(data, num_classes=num_targets(data)), seed, build, key)


def _open(data: DataConfig, seed: int, build: Callable[[DataConfig, str], Any], key: str | None) -> OpenedData:
    """Open map-style data sets.

    Args:
        data: the data config, with the number of classes.
        seed: seed of torch's random functions in `__getitem__`.
        build: function that returns the data set of a split, or None if there is no such split.
        key: setting that names the data set, for errors; None for the key of the split, `data.train`.
    """
    train = build(data, "train")
    targets = dataset_targets(data, train)
    own = partial(DatasetImages, train, data, key or "data.train", seed=seed)
    images = {"train": own()}
    notes = []
    kept = torch.arange(len(train))
    labels = images["train"].targets if data.target == CLASS_INDEX else None
    strata = torch.zeros_like(kept) if labels is None else labels
    for split, fraction in (("test", data.test_fraction), ("val", data.val_fraction)):
        if (dataset := build(data, split)) is not None:
            positions = class_positions(data, dataset, split, targets)
            images[split] = DatasetImages(dataset, data, key or f"data.{split}", seed=seed, positions=positions)
        elif fraction:
            places, held_out = stratified_split(strata[kept], fraction, f"data.{split}_fraction")
            images[split] = own(samples=kept[held_out])
            kept = kept[places]
            images["train"] = own(samples=kept)
            notes.append(held_out_note(data, split, len(held_out)))
    if data.max_per_class is not None:
        if labels is None:
            raise unknown_classes("data.max_per_class", data.max_per_class)
        images["train"] = own(samples=kept[kept_places(data, labels[kept])])
    if "test" not in images:
        notes.append(no_test_note(data))
    known = {name: split.targets for name, split in images.items()}
    notes += absent_notes(
        data, targets, {name: labels.tolist() for name, labels in known.items() if labels is not None}
    )
    return streamed_data(data, seed, targets, {name: images[name] for name in SPLITS if name in images}, notes)
