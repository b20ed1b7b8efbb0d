"""Packed sets."""

from __future__ import annotations

from convoy.config.data_schema import DataConfig
from convoy.config.image_size import sides_of
from convoy.data.images.pixel_format import PixelFormat
from convoy.data.opening.opened_data import OpenedData
from convoy.data.opening.streamed_data import streamed_data
from convoy.data.shards.order import ShardOrder
from convoy.data.shards.shard_images import ShardImages, check_files
from convoy.data.shards.shard_index import read_index
from convoy.data.shards.storage import open_storage
from convoy.data.split_notes import absent_notes, no_test_note
from convoy.data.targets import CLASS_INDEX, Targets


def open_shards(data: DataConfig, seed: int) -> OpenedData:
    """Read the index of a packed set and open it.

    Args:
        data: the data config, checked.
        seed: seed of the augmentation, and of the order of shards.
    """
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
    return streamed_data(data, seed, targets, images, notes, order)
