"""From a data config to its splits: read, checked, fitted to the network's input, val held out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from convoy.config.faults import UserError
from convoy.config.schema import DataConfig
from convoy.data.check import FOLDER_SOURCE, SHARDS_SOURCE, check_data
from convoy.data.collate import Batch, BatchSpec
from convoy.data.folder_loader import BadImages, PictureEvaluation, PictureTraining
from convoy.data.folders import ImageFiles, find_layout, list_images, read_classes
from convoy.data.memory import MemoryEvaluation, MemoryTraining
from convoy.data.sampling import EvaluationSampler, Order, TrainingSampler
from convoy.data.shards.index import read_index
from convoy.data.shards.order import ShardOrder
from convoy.data.shards.shard_images import ShardPictures, check_files
from convoy.data.shards.storage import open_storage
from convoy.data.sources.image_set import LabelledImages
from convoy.data.sources.registry import READERS
from convoy.data.split_images import FilePictures, Pictures
from convoy.data.splits import stratified_split
from convoy.data.targets import CLASS_INDEX, Targets
from convoy.data.tensor_resize import fit_images, with_channels


class TrainingSplit(Protocol):
    """The training images of a set, augmented as they are read."""

    def batches(
        self, plan: TrainingSampler, rank: int, first_step: int, end_step: int, delivery: BatchSpec
    ) -> Iterator[Batch]: ...


class EvaluationSplit(Protocol):
    """The images of a split as they are."""

    def batches(self, plan: EvaluationSampler, rank: int, delivery: BatchSpec) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class OpenedData:
    """A set that is ready to be read.

    Attributes:
        targets: kind and names of the targets.
        train: the training split.
        evaluation: train as it is, val, and test where there is one, by name.
        sizes: images in train, val and test.
        bad_images: those skipped so far, by path.
        notes: what a user may not expect about the set, a sentence each.
        order: of the training images, where it is the set's own.
    """

    targets: Targets
    train: TrainingSplit
    evaluation: dict[str, EvaluationSplit]
    sizes: dict[str, int]
    bad_images: BadImages
    notes: tuple[str, ...] = ()
    order: Order | None = None


def open_data(data: DataConfig, seed: int) -> OpenedData:
    """Reads a set in memory, lists a folder's images, or reads the index of shards.

    Args:
        data: what to read.
        seed: of the augmentation, and of the order of shards.

    Raises:
        UserError: with all faults of `data`, or the first of its files that can't be used.
    """
    if faults := check_data(data):
        raise UserError(*faults)
    if data.source == FOLDER_SOURCE:
        return _open_folder(data, seed)
    if data.source == SHARDS_SOURCE:
        return _open_shards(data, seed)
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
        train=MemoryTraining(splits["train"], data, seed),
        evaluation={name: MemoryEvaluation(split, data) for name, split in splits.items()},
        sizes={name: len(split) for name, split in splits.items()},
        bad_images=BadImages(skip=False),
    )


def _fitted(split: LabelledImages, data: DataConfig) -> LabelledImages:
    images = fit_images(split.images, data.image_size, data.fit)
    return LabelledImages(with_channels(images, data.channels).contiguous(), split.labels)


@dataclass(frozen=True)
class FolderSplits:
    """The images of a folder by split: train, val, and test where there is one.

    Attributes:
        notes: what a user may not expect about them, a sentence each.
    """

    classes: tuple[str, ...]
    splits: dict[str, ImageFiles]
    notes: tuple[str, ...]


def folder_splits(data: DataConfig) -> FolderSplits:
    """Lists the images of a folder, val held out of train where it has none.

    Raises:
        UserError: if the folder can't be used.
    """
    assert data.root is not None, "check_data has seen to it"
    layout = find_layout(data.root)
    classes = read_classes(layout)
    notes = list(layout.notes)
    splits = {"train": list_images(layout.train, classes)}
    if layout.val is not None:
        splits["val"] = list_images(layout.val, classes)
    else:
        splits["train"], splits["val"] = _held_out(splits["train"], data.val_fraction)
        notes.append(f"{data.root} has no val folder: {len(splits['val'])} images of train were held out for val.")
    if layout.test is not None:
        splits["test"] = list_images(layout.test, classes)
    else:
        notes.append(_no_test(data))
    return FolderSplits(classes, splits, tuple(notes))


def _open_folder(data: DataConfig, seed: int) -> OpenedData:
    found = folder_splits(data)
    pictures = {
        name: FilePictures(files.paths, torch.tensor(files.labels), data.channels)
        for name, files in found.splits.items()
    }
    return _open_pictures(data, seed, Targets(CLASS_INDEX, found.classes), pictures, found.notes)


def _open_shards(data: DataConfig, seed: int) -> OpenedData:
    assert data.root is not None, "check_data has seen to it"
    storage = open_storage(data.root)
    index = read_index(data.root, storage)
    check_files(storage, index)
    notes = [] if "test" in index.splits else [_no_test(data)]
    if (shorter := data.eval_resize or data.image_size) > index.size:
        notes.append(f"{data.root} was packed with {index.size} pixels, which val enlarges to {shorter}.")
    pictures = {name: ShardPictures(storage, index, split, data.channels) for name, split in index.splits.items()}
    order = ShardOrder([shard.num_samples for shard in index.splits["train"].shards], seed, data.shuffle_buffer)
    return _open_pictures(data, seed, Targets(CLASS_INDEX, index.classes), pictures, notes, order)


def _open_pictures(
    data: DataConfig,
    seed: int,
    targets: Targets,
    pictures: Mapping[str, Pictures],
    notes: Sequence[str],
    order: Order | None = None,
) -> OpenedData:
    bad_images = BadImages(skip=data.on_bad_image == "skip")
    return OpenedData(
        targets=targets,
        train=PictureTraining(pictures["train"], data, seed, bad_images),
        evaluation={name: PictureEvaluation(split, data, bad_images) for name, split in pictures.items()},
        sizes={name: len(pictures[name].targets) if name in pictures else 0 for name in ("train", "val", "test")},
        bad_images=bad_images,
        notes=tuple(notes),
        order=order,
    )


def _no_test(data: DataConfig) -> str:
    return f"{data.root} has no test split: val chose the checkpoint, so there is nothing to test on."


def _held_out(files: ImageFiles, fraction: float) -> tuple[ImageFiles, ImageFiles]:
    kept, held_out = stratified_split(torch.tensor(files.labels), fraction)
    return files.at(kept.tolist()), files.at(held_out.tolist())
