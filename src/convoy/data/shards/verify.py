"""Verification of the checksums of a packed data set."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.faults import Fault, UserError
from convoy.data.shards.shard_index import Index, read_index
from convoy.data.shards.storage import digest, open_storage


def verify(root: str) -> Index:
    """Read every file of a packed data set and compare its checksum.

    Raises:
        UserError: if files are missing or damaged; one fault per file.
    """
    storage = open_storage(root)
    index = read_index(root, storage)
    faults = []
    for file, sha256 in dict(_files(index)).items():
        try:
            _, actual = digest(storage, file)
        except FileNotFoundError:
            faults.append(Fault("verify", f"{file} is missing", _REMEDY, root))
            continue
        if actual != sha256:
            faults.append(Fault("verify", f"{file} is damaged (its checksum differs)", _REMEDY, root))
    if faults:
        raise UserError(*faults)
    return index


_REMEDY = "copy it again, or repeat convoy pack, which rewrites damaged files, or convoy index"


def _files(index: Index) -> Iterator[tuple[str, str]]:
    for split in index.splits.values():
        yield split.table, split.sha256
        for shard in split.shards:
            yield shard.file, shard.sha256
