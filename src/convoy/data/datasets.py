"""Data set opened for a run: reading, checks, and the splits train, val and test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from convoy.config.faults import Fault, UserError
from convoy.config.schema import DataConfig
from convoy.data.check import DATASET_SOURCE, FOLDER_SOURCE, SHARDS_SOURCE, TABLE_SOURCE, check_data
from convoy.data.collate import Batch, BatchSpec
from convoy.data.dataset_images import DatasetImages, build_dataset, class_positions, dataset_targets
from convoy.data.folders import ImageFiles, find_layout, list_images, read_classes
from convoy.data.image_loader import BadImages, StreamedEvaluation, StreamedTraining
from convoy.data.memory_loader import MemoryEvaluation, MemoryTraining
from convoy.data.resize import fit_images, with_channels
from convoy.data.sampling import EvaluationSampler, Order, TrainingSampler
from convoy.data.shards.index import read_index
from convoy.data.shards.order import ShardOrder
from convoy.data.shards.shard_images import ShardImages, check_files
from convoy.data.shards.storage import open_storage
from convoy.data.sources.image_set import LabelledImages
from convoy.data.sources.registry import READERS
from convoy.data.split_images import FileImages, SplitImages
from convoy.data.splits import stratified_split
from convoy.data.table import check_images, read_table
from convoy.data.targets import CLASS_INDEX, Targets, listed

SPLITS = ("train", "val", "test")

MOST_EVAL_RESIZE = 1.5
"""Ratio of data.eval_resize to data.image_size from which a note is printed; 256 / 224 is usual."""


class TrainingSplit(Protocol):
    """Training images, augmented as they are read."""

    def batches(
        self, sampler: TrainingSampler, rank: int, first_step: int, end_step: int, spec: BatchSpec
    ) -> Iterator[Batch]:
        """Yield the micro batches of `rank` in the optimizer steps first_step .. end_step - 1."""
        ...


class EvaluationSplit(Protocol):
    """Images of a split, not augmented."""

    def batches(self, sampler: EvaluationSampler, rank: int, spec: BatchSpec) -> Iterator[Batch]:
        """Yield the batches of `rank`."""
        ...


@dataclass(frozen=True)
class OpenedData:
    """Data set that is ready to be read.

    Attributes:
        targets: kind and names of the targets.
        training_targets: targets of all training images; None if they are only known after reading the images.
        train: training split, augmented.
        evaluation: splits by name, not augmented; train is among them.
        sizes: number of images in train, val and test.
        bad_images: images that can't be decoded.
        notes: facts that a user may not expect, one sentence each.
        order: order of the training images, if the source determines it.
    """

    targets: Targets
    training_targets: Tensor | None
    train: TrainingSplit
    evaluation: dict[str, EvaluationSplit]
    sizes: dict[str, int]
    bad_images: BadImages
    notes: tuple[str, ...] = ()
    order: Order | None = None


def open_data(data: DataConfig, seed: int) -> OpenedData:
    """Open a data set: read it into memory, list its files, read the index of its shards, or build the user's class.

    Args:
        data: the data config.
        seed: seed of the augmentation, and of the order of shards.

    Raises:
        UserError: if the config has faults or a file can't be used.
    """
    if faults := check_data(data):
        raise UserError(*faults)
    if data.source in (FOLDER_SOURCE, TABLE_SOURCE):
        return _open_files(data, seed)
    if data.source == SHARDS_SOURCE:
        return _open_shards(data, seed)
    if data.source == DATASET_SOURCE:
        return _open_dataset(data, seed)
    return _open_memory(data, seed)


def _open_memory(data: DataConfig, seed: int) -> OpenedData:
    image_set = READERS[data.source](data)
    kept, held_out = stratified_split(image_set.train.labels, data.val_fraction)
    splits = {
        "train": _fitted(image_set.train.at(kept), data),
        "val": _fitted(image_set.train.at(held_out), data),
        "test": _fitted(image_set.test, data),
    }
    return OpenedData(
        targets=Targets(CLASS_INDEX, image_set.classes),
        training_targets=splits["train"].labels,
        train=MemoryTraining(splits["train"], data, seed),
        evaluation={name: MemoryEvaluation(split, data) for name, split in splits.items()},
        sizes={name: len(split) for name, split in splits.items()},
        bad_images=BadImages(skip=False),
    )


def _fitted(split: LabelledImages, data: DataConfig) -> LabelledImages:
    images = fit_images(split.images, data.image_size, data.fit)
    return LabelledImages(with_channels(images, data.channels).contiguous(), split.labels)


@dataclass(frozen=True)
class FileSplits:
    """Image files of a folder or a table by split: train, val, and test if there is one.

    Attributes:
        targets: kind and names of the targets.
        splits: files by the split's name.
        notes: facts that a user may not expect, one sentence each.
    """

    targets: Targets
    splits: dict[str, ImageFiles]
    notes: tuple[str, ...]


def file_splits(data: DataConfig) -> FileSplits:
    """List the image files of a folder or a table; val and test are held out of train if configured.

    Raises:
        UserError: if the folder or the table can't be used.
    """
    targets, splits, notes = _table_files(data) if data.source == TABLE_SOURCE else _folder_files(data)
    for split, fraction in (("test", data.test_fraction), ("val", data.val_fraction)):
        if split in splits or not fraction:
            continue
        splits["train"], splits[split] = _held_out(splits["train"], targets.kind, fraction, f"data.{split}_fraction")
        notes.append(_held_out_note(data, split, len(splits[split])))
    if "test" not in splits:
        notes.append(_no_test(data))
    notes += _absent_notes(data, targets, {name: split.targets for name, split in splits.items()})
    return FileSplits(targets, {name: splits[name] for name in SPLITS if name in splits}, tuple(notes))


def _folder_files(data: DataConfig) -> tuple[Targets, dict[str, ImageFiles], list[str]]:
    assert data.root is not None, "check_data requires it"
    layout = find_layout(data.root)
    classes = read_classes(layout)
    notes = list(layout.notes)
    splits = {"train": list_images(layout.train, classes)}
    for split, folder in (("val", layout.val), ("test", layout.test)):
        if folder is None:
            continue
        splits[split] = list_images(folder, classes, complete=False)
    notes += [note for files in splits.values() for note in files.notes]
    return Targets(CLASS_INDEX, classes), splits, notes


def _table_files(data: DataConfig) -> tuple[Targets, dict[str, ImageFiles], list[str]]:
    table = read_table(data)
    check_images(data, table)
    images = ImageFiles(table.paths, table.rows)
    if table.splits is None:
        return table.targets, {"train": images}, []
    places: dict[str, list[int]] = {}
    for place, split in enumerate(table.splits):
        places.setdefault(split, []).append(place)
    return table.targets, {split: images.at(samples) for split, samples in places.items()}, []


def _held_out(files: ImageFiles, kind: str, fraction: float, key: str) -> tuple[ImageFiles, ImageFiles]:
    """Return the files that are kept and those held out: stratified by class if each image has one."""
    strata = torch.tensor(files.targets) if kind == CLASS_INDEX else torch.zeros(len(files), dtype=torch.int64)
    kept, held_out = stratified_split(strata, fraction, key)
    return files.at(kept.tolist()), files.at(held_out.tolist())


def _open_files(data: DataConfig, seed: int) -> OpenedData:
    files = file_splits(data)
    dtype = torch.int64 if files.targets.kind == CLASS_INDEX else torch.float32
    images = {
        name: FileImages(split.paths, torch.tensor(split.targets, dtype=dtype), data.channels)
        for name, split in files.splits.items()
    }
    return _open_streamed(data, seed, files.targets, images, files.notes)


def _open_dataset(data: DataConfig, seed: int) -> OpenedData:
    train = build_dataset(data, "train")
    targets = dataset_targets(data, train)
    images = {"train": DatasetImages(train, data, "train", seed=seed)}
    notes = []
    kept = torch.arange(len(train))
    labels = images["train"].targets if data.target == CLASS_INDEX else None
    strata = torch.zeros_like(kept) if labels is None else labels
    for split, fraction in (("test", data.test_fraction), ("val", data.val_fraction)):
        if getattr(data, split) is not None:
            dataset = build_dataset(data, split)
            positions = class_positions(data, dataset, split, targets)
            images[split] = DatasetImages(dataset, data, split, seed=seed, positions=positions)
        elif fraction:
            places, held_out = stratified_split(strata[kept], fraction, f"data.{split}_fraction")
            images[split] = DatasetImages(train, data, "train", seed=seed, samples=kept[held_out])
            kept = kept[places]
            images["train"] = DatasetImages(train, data, "train", seed=seed, samples=kept)
            notes.append(_held_out_note(data, split, len(held_out)))
    if "test" not in images:
        notes.append(_no_test(data))
    known = {name: split.targets for name, split in images.items()}
    notes += _absent_notes(
        data, targets, {name: labels.tolist() for name, labels in known.items() if labels is not None}
    )
    return _open_streamed(data, seed, targets, {name: images[name] for name in SPLITS if name in images}, notes)


def _open_shards(data: DataConfig, seed: int) -> OpenedData:
    assert data.root is not None, "check_data requires it"
    storage = open_storage(data.root)
    index = read_index(data.root, storage)
    check_files(storage, index)
    notes = [] if "test" in index.splits else [_no_test(data)]
    if (shorter := data.eval_resize or data.image_size) > index.size:
        notes.append(f"{data.root} was packed with {index.size} pixels, which val and test enlarge to {shorter}.")
    images = {name: ShardImages(storage, index, split, data.channels) for name, split in index.splits.items()}
    targets = Targets(CLASS_INDEX, index.classes)
    notes += _absent_notes(data, targets, {name: split.targets.tolist() for name, split in images.items()})
    order = ShardOrder([shard.num_samples for shard in index.splits["train"].shards], seed, data.shuffle_buffer)
    return _open_streamed(data, seed, targets, images, notes, order)


def _open_streamed(
    data: DataConfig,
    seed: int,
    targets: Targets,
    images: Mapping[str, SplitImages],
    notes: Sequence[str],
    order: Order | None = None,
) -> OpenedData:
    if data.eval_resize is not None and data.eval_resize > MOST_EVAL_RESIZE * data.image_size:
        size = data.image_size
        notes = [
            *notes,
            f"val and test see the central {size}x{size} of {data.eval_resize} pixels only; data.eval_resize=null shows"
            " the whole image.",
        ]
    key = "data.train" if data.source == DATASET_SOURCE else "data.root"
    bad_images = BadImages(skip=data.on_bad_image == "skip", key=key)
    return OpenedData(
        targets=targets,
        training_targets=images["train"].targets,
        train=StreamedTraining(images["train"], data, seed, bad_images),
        evaluation={name: StreamedEvaluation(split, data, bad_images) for name, split in images.items()},
        sizes={name: len(images[name]) if name in images else 0 for name in SPLITS},
        bad_images=bad_images,
        notes=tuple(notes),
        order=order,
    )


def missing_split(data: DataConfig, split: str) -> UserError:
    """Return the error of a split that the data set does not have."""
    if data.source == TABLE_SOURCE:
        remedy = f"mark its rows {split} in data.split_column, or set data.{split}_fraction"
        return UserError(Fault("data.file", f"has no {split} split", remedy, data.file))
    if data.source == DATASET_SOURCE:
        remedy = f"give data.{split}, or set data.{split}_fraction"
        return UserError(Fault(f"data.{split}", f"{data.name} has no {split} split", remedy))
    remedy = f"add a folder {split}/ beside train/, or train with trainer.test=false"
    return UserError(Fault("data.root", f"has no {split} split", remedy, data.root))


def _held_out_note(data: DataConfig, split: str, count: int) -> str:
    return f"{_place(data)} has no {split} split: {count} images of train were held out for {split}."


def _absent_notes(data: DataConfig, targets: Targets, labels: Mapping[str, Sequence[Any]]) -> list[str]:
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
            notes.append(f"{split} of {_place(data)} has no images of {listed(absent)}; their results are empty.")
    return notes


def _no_test(data: DataConfig) -> str:
    return f"{_place(data)} has no test split: val chose the checkpoint, so there is nothing to test on."


def _place(data: DataConfig) -> str:
    if data.source == DATASET_SOURCE:
        return data.name
    return str(data.file if data.source == TABLE_SOURCE else data.root)
