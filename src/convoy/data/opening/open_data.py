"""Data set opened for a run, by the module of its source: others are not imported."""

from __future__ import annotations

from convoy.config.data_schema import DataConfig
from convoy.data.opening.opened_data import OpenedData
from convoy.data.source_names import DATASET_SOURCE, LISTED_SOURCES, SHARDS_SOURCE, TORCHVISION_SOURCE


def open_data(data: DataConfig, seed: int) -> OpenedData:
    """Open a data set: read it into memory, list its files, read the index of its shards, or build the user's class.

    Args:
        data: the data config, checked (see `check_data`).
        seed: seed of the augmentation, and of the order of shards.

    Raises:
        UserError: if a file can't be used.
    """
    if data.source in LISTED_SOURCES:
        from convoy.data.opening.open_files import open_files

        return open_files(data, seed)
    if data.source == SHARDS_SOURCE:
        from convoy.data.opening.open_shards import open_shards

        return open_shards(data, seed)
    if data.source in (DATASET_SOURCE, TORCHVISION_SOURCE):
        from convoy.data.opening.open_dataset import open_dataset

        return open_dataset(data, seed)
    from convoy.data.opening.open_memory import open_memory

    return open_memory(data, seed)
