"""Notes and errors on the splits of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.data.source_names import COCO_KEYPOINTS_SOURCE, DATASET_SOURCE, TABLE_SOURCE, TORCHVISION_SOURCE
from convoy.data.targets import CLASS_INDEX, Targets, counted, listed


def missing_split(data: DataConfig, split: str) -> UserError:
    """Return the error of a split that the data set does not have."""
    if data.source == TABLE_SOURCE:
        remedy = f"mark its rows {split} in data.split_column, or set data.{split}_fraction"
        return UserError(Fault("data.file", f"has no {split} split", remedy, data.file))
    if data.source == DATASET_SOURCE:
        remedy = f"give data.{split}, or set data.{split}_fraction"
        return UserError(Fault(f"data.{split}", f"{data.name} has no {split} split", remedy))
    if data.source == TORCHVISION_SOURCE:
        remedy = f"set data.{split}_fraction"
        return UserError(Fault("data.name", f"has no {split} split", remedy, data.name))
    remedy = f"add a folder {split}/ beside train/, or train with trainer.test=false"
    return UserError(Fault("data.root", f"has no {split} split", remedy, data.root))


def held_out_note(data: DataConfig, split: str, count: int) -> str:
    images = f"{counted(count, 'image')} of train {'was' if count == 1 else 'were'}"
    return f"{place_of(data)} has no {split} split: {images} held out for {split}."


def absent_notes(data: DataConfig, targets: Targets, labels: Mapping[str, Sequence[Any]]) -> list[str]:
    """Return a note for val and test if one lacks classes of train.

    Args:
        data: the data config.
        targets: names of the classes.
        labels: class of each image by split.
    """
    if targets.kind != CLASS_INDEX:
        return []
    notes = []
    for split in ("val", "test"):
        present = set(labels.get(split, range(len(targets.names))))
        if absent := [name for label, name in enumerate(targets.names) if label not in present]:
            notes.append(f"{split} of {place_of(data)} has no images of {listed(absent)}; their results are empty.")
    return notes


UNEQUAL = 3
"""Ratio of the largest to the smallest class from which a note is printed."""


def unequal_notes(targets: Targets, counts: Sequence[int]) -> list[str]:
    """Return a note if the classes of train differ much in size.

    Args:
        targets: names of the classes.
        counts: training images of each class.
    """
    present = [(count, name) for count, name in zip(counts, targets.names, strict=True) if count]
    (least, smallest), (most, largest) = min(present), max(present)
    if most < UNEQUAL * least:
        return []
    return [
        f"train has {least:,} ({smallest}) to {most:,} ({largest}) images per class; data.sampler=balanced draws all"
        " classes equally often, and loss.weight=balanced weighs them."
    ]


def no_test_note(data: DataConfig) -> str:
    return f"{place_of(data)} has no test split: val chose the checkpoint, so there is nothing to test on."


def place_of(data: DataConfig) -> str:
    if data.source in (DATASET_SOURCE, TORCHVISION_SOURCE):
        return data.name
    return str(data.file if data.source in (TABLE_SOURCE, COCO_KEYPOINTS_SOURCE) else data.root)
