"""Sets that are small enough to be held in memory, such as Fashion-MNIST."""

from __future__ import annotations

import torch

from convoy.config.data_schema import DataConfig
from convoy.data.batches.memory_loader import MemoryEvaluation, MemoryTraining
from convoy.data.images.bad_images import BadImages
from convoy.data.images.resize import fit_images, with_channels
from convoy.data.opening.opened_data import OpenedData
from convoy.data.reading.memory_images import MemoryImages
from convoy.data.sampling.orders import kept_places, shared_order
from convoy.data.sampling.splits import stratified_split
from convoy.data.sources.image_set import LabelledImages
from convoy.data.sources.registry import read_set
from convoy.data.targets import CLASS_INDEX, Targets


def open_memory(data: DataConfig, seed: int) -> OpenedData:
    """Read a set into memory.

    Args:
        data: the data config, checked.
        seed: seed of the augmentation.
    """
    image_set = read_set(data)
    kept, held_out = stratified_split(image_set.train.labels, data.val_fraction)
    kept = kept[kept_places(data, image_set.train.labels[kept])]
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


def _fitted(split: LabelledImages, data: DataConfig) -> LabelledImages:
    images = fit_images(split.images, data.image_size, data.fit)
    return LabelledImages(with_channels(images, data.channels).contiguous(), split.labels)
