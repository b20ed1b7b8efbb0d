"""Whether a packed set is as it was written, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.faults import Fault, UserError
from convoy.data.shards.index import Index, read_index
from convoy.data.shards.storage import digest, open_storage


def verify(root: str) -> Index:
    """Reads every file of a packed set and compares its checksum.

    Raises:
        UserError: naming each file that is gone or damaged.
    """
    storage = open_storage(root)
    index = read_index(root, storage)
    faults = []
    for file, sha256 in _files(index):
        try:
            _, found = digest(storage, file)
        except FileNotFoundError:
            faults.append(Fault("verify", f"{file} is gone", _REMEDY, root))
            continue
        if found != sha256:
            faults.append(Fault("verify", f"{file} is damaged (its checksum differs)", _REMEDY, root))
    if faults:
        raise UserError(*faults)
    return index


_REMEDY = "copy it again, or pack again into the same folder, which writes what is damaged"


def _files(index: Index) -> Iterator[tuple[str, str]]:
    for split in index.splits.values():
        yield split.table, split.sha256
        for shard in split.shards:
            yield shard.file, shard.sha256
