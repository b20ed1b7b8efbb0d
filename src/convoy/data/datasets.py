"""Data set opened for a run: reading, checks, and the splits train, val and test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.config.image_size import sides_of
from convoy.data.block_images import BlockImages
from convoy.data.check import check_data, num_targets
from convoy.data.collate import Batch, BatchSpec
from convoy.data.dataset_images import DatasetImages, build_dataset, class_positions, dataset_targets
from convoy.data.decode_ahead import BadImages
from convoy.data.decoded_cache import DecodedCache
from convoy.data.file_splits import SPLITS, file_splits
from convoy.data.image_loader import StreamedEvaluation, StreamedTraining
from convoy.data.located.open_targets import open_targets
from convoy.data.memory_loader import MemoryEvaluation, MemoryTraining
from convoy.data.orders import SharedOrder, Shuffled, most_of_each_class, shared_order, unknown_classes
from convoy.data.pixel_format import PixelFormat
from convoy.data.resize import fit_images, with_channels
from convoy.data.sampling import EvaluationSampler, Order, TrainingSampler
from convoy.data.shards.order import ShardOrder
from convoy.data.shards.shard_images import ShardImages, check_files
from convoy.data.shards.shard_index import read_index
from convoy.data.shards.storage import open_storage
from convoy.data.source_names import DATASET_SOURCE, LISTED_SOURCES, SHARDS_SOURCE, TORCHVISION_SOURCE, WHOLE_VIEW
from convoy.data.sources.image_set import LabelledImages
from convoy.data.sources.registry import READERS
from convoy.data.split_images import FileImages, MemoryImages, SplitImages
from convoy.data.split_notes import absent_notes, held_out_note, no_test_note
from convoy.data.splits import stratified_split
from convoy.data.targets import CLASS_INDEX, IMAGE, Targets
from convoy.data.whole_images import WholeEvaluation

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
        images: splits by name, as single images.
        sizes: number of images in train, val and test.
        bad_images: images that can't be decoded.
        notes: facts that a user may not expect, one sentence each.
        order: order of the training images, if the source determines it.
        shared: order of the training images otherwise.
    """

    targets: Targets
    training_targets: Tensor | None
    train: TrainingSplit
    evaluation: dict[str, EvaluationSplit]
    images: Mapping[str, SplitImages]
    sizes: dict[str, int]
    bad_images: BadImages
    notes: tuple[str, ...] = ()
    order: Order | None = None
    shared: SharedOrder = field(default_factory=Shuffled)


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
    if data.source in LISTED_SOURCES:
        return _open_files(data, seed)
    if data.source == SHARDS_SOURCE:
        return _open_shards(data, seed)
    if data.source == DATASET_SOURCE:
        return _open_dataset(replace(data, num_classes=num_targets(data)), seed, build_dataset, None)
    if data.source == TORCHVISION_SOURCE:
        from convoy.data.torchvision_images import torchvision_set

        data = replace(data, num_classes=num_targets(data))
        return _open_dataset(data, seed, torchvision_set, "data.name")
    return _open_memory(data, seed)


def _open_memory(data: DataConfig, seed: int) -> OpenedData:
    image_set = READERS[data.source](data)
    kept, held_out = stratified_split(image_set.train.labels, data.val_fraction)
    kept = kept[_places(data, image_set.train.labels[kept])]
    splits = {
        "train": _fitted(image_set.train.at(kept), data),
        "val": _fitted(image_set.train.at(held_out), data),
        "test": _fitted(image_set.test, data),
    }
    origins = {
        "train": ("train", kept),
        "val": ("train", held_out),
        "test": ("test", torch.arange(len(image_set.test))),
    }
    return OpenedData(
        targets=Targets(CLASS_INDEX, image_set.classes),
        training_targets=splits["train"].labels,
        train=MemoryTraining(splits["train"], data, seed),
        evaluation={name: MemoryEvaluation(split, data) for name, split in splits.items()},
        images={name: MemoryImages(split, *origins[name]) for name, split in splits.items()},
        sizes={name: len(split) for name, split in splits.items()},
        bad_images=BadImages(skip=False),
        shared=shared_order(data, splits["train"].labels),
    )


def _places(data: DataConfig, labels: Tensor) -> Tensor:
    """Return the indices of the training images that data.max_per_class keeps."""
    if data.max_per_class is None:
        return torch.arange(len(labels))
    return most_of_each_class(labels, data.max_per_class)


def _fitted(split: LabelledImages, data: DataConfig) -> LabelledImages:
    images = fit_images(split.images, data.image_size, data.fit)
    return LabelledImages(with_channels(images, data.channels).contiguous(), split.labels)


def _open_files(data: DataConfig, seed: int) -> OpenedData:
    files = file_splits(data)
    dtype = torch.int64 if files.targets.kind == CLASS_INDEX else torch.float32
    if data.max_per_class is not None:
        train = files.splits["train"]
        files.splits["train"] = train.at(_places(data, torch.tensor(train.targets)).tolist())
    form, cache = PixelFormat.of(data), None
    if files.targets.kind == IMAGE:
        # A patch is a small part of an image, which is decoded once if there is memory for it.
        form, cache = replace(form, channels=len(files.targets.names)), DecodedCache()
        files.splits["train"] = files.splits["train"].repeated(data.patches_per_image)
    images: dict[str, SplitImages] = {}
    order = None
    for name, split in files.splits.items():
        if split.blocks is not None:
            images[name] = blocks = BlockImages(split, torch.tensor(split.targets, dtype=dtype), form)
            order = blocks.order(seed, data.shuffle_buffer) if name == "train" else order
            continue
        located = open_targets(split, files.targets, data)
        targets = torch.tensor(split.targets, dtype=dtype) if located is None else None
        images[name] = FileImages(split, targets, form, located, cache)
    return _open_streamed(data, seed, files.targets, images, files.notes, order)


def _open_dataset(data: DataConfig, seed: int, build: Callable[[DataConfig, str], Any], key: str | None) -> OpenedData:
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
        images["train"] = own(samples=kept[_places(data, labels[kept])])
    if "test" not in images:
        notes.append(no_test_note(data))
    known = {name: split.targets for name, split in images.items()}
    notes += absent_notes(
        data, targets, {name: labels.tolist() for name, labels in known.items() if labels is not None}
    )
    return _open_streamed(data, seed, targets, {name: images[name] for name in SPLITS if name in images}, notes)


def _open_shards(data: DataConfig, seed: int) -> OpenedData:
    assert data.root is not None, "check_data requires it"
    storage = open_storage(data.root)
    index = read_index(data.root, storage)
    check_files(storage, index)
    notes = [] if "test" in index.splits else [no_test_note(data)]
    if 0 < index.size < (shorter := data.eval_resize or sides_of(data.image_size).shorter):
        notes.append(f"{data.root} was packed with {index.size} pixels, which val and test enlarge to {shorter}.")
    images = {name: ShardImages(storage, index, split, PixelFormat.of(data)) for name, split in index.splits.items()}
    targets = Targets(CLASS_INDEX, index.classes)
    notes += absent_notes(data, targets, {name: split.targets.tolist() for name, split in images.items()})
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
    size = sides_of(data.image_size)
    if data.eval_resize is not None and data.eval_resize > MOST_EVAL_RESIZE * size.shorter:
        notes = [
            *notes,
            f"val and test see the central {size} of {data.eval_resize} pixels only; data.eval_resize=null shows"
            " the whole image.",
        ]
    key = "data.train" if data.source == DATASET_SOURCE else "data.root"
    bad_images = BadImages(skip=data.on_bad_image == "skip", key=key)
    evaluation = WholeEvaluation if data.eval_view == WHOLE_VIEW else StreamedEvaluation
    return OpenedData(
        targets=targets,
        training_targets=images["train"].targets,
        train=StreamedTraining(images["train"], data, seed, bad_images),
        evaluation={name: evaluation(split, data, bad_images) for name, split in images.items()},
        images=images,
        sizes={name: len(images[name]) if name in images else 0 for name in SPLITS},
        bad_images=bad_images,
        notes=tuple(notes),
        order=order,
        shared=shared_order(data, images["train"].targets),
    )
