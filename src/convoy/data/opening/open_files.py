"""Sets of image files: folders, tables, key points of COCO and rows of Hugging Face."""

from __future__ import annotations

from dataclasses import replace

import torch

from convoy.config.data_schema import DataConfig
from convoy.data.images.decoded_cache import DecodedCache
from convoy.data.images.pixel_format import PixelFormat
from convoy.data.located.open_targets import open_targets
from convoy.data.opening.file_splits import file_splits
from convoy.data.opening.opened_data import OpenedData
from convoy.data.opening.streamed_data import streamed_data
from convoy.data.reading.block_images import BlockImages
from convoy.data.reading.file_images import FileImages
from convoy.data.reading.split_images import SplitImages
from convoy.data.sampling.orders import kept_places
from convoy.data.targets import CLASS_INDEX, IMAGE


def open_files(data: DataConfig, seed: int) -> OpenedData:
    """List the images of a set and open it.

    Args:
        data: the data config, checked.
        seed: seed of the augmentation, and of the order of rows that are streamed.
    """
    files = file_splits(data)
    dtype = torch.int64 if files.targets.kind == CLASS_INDEX else torch.float32
    if data.max_per_class is not None:
        train = files.splits["train"]
        files.splits["train"] = train.at(kept_places(data, torch.tensor(train.targets)).tolist())
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
    return streamed_data(data, seed, files.targets, images, files.notes, order)
