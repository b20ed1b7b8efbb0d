"""Check of packed shards. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.data.checks.source_check import counted_faults, is_folder, padding_faults, uncounted_faults
from convoy.data.shards.shard_index import read_index
from convoy.data.shards.storage import S3


def count_targets(data: DataConfig) -> int:
    """See `SourceCheck`."""
    if data.root is None:
        remedy = f"give the folder that convoy pack wrote, or {S3}bucket/prefix"
        raise UserError(Fault("data.root", "is missing", remedy, "null"))
    return len(read_index(data.root).classes)


def faults(data: DataConfig, *, present: bool) -> Iterator[Fault]:
    """See `SourceCheck`."""
    yield from padding_faults(data)
    is_address = data.root is not None and data.root.startswith(S3)
    is_at_hand = is_folder(data.root) or (data.num_classes is None and is_address)
    if not present and not is_at_hand:
        yield from uncounted_faults(data, "root", "folder")
        return
    yield from counted_faults(data, count_targets, data.root)
