"""Contents of index.json of a packed data set. Imports neither torch nor NumPy.

The folder also contains the shards of each split and, per split, a table of its samples (see `COLUMNS`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from convoy.config.faults import Fault, UserError
from convoy.data.shards.storage import Storage, open_storage

FILE = "index.json"
VERSION = 1
FORMATS = ("jpeg", "raw")
TAR_FORMAT = "tar"
"""Format of tar files that others have written, which `indexing` has indexed."""
SUFFIXES = {"jpeg": "tar", "raw": "u8"}
COLUMNS = ("offset", "length", "label", "crc32")
"""Columns of the table of a split's samples, an .npy file of uint32 [samples, 4] (uint64 for files above 4 GiB):
position of the image's first byte in its shard, number of bytes, class, and checksum (zlib.crc32). The rows have the
order of the shards."""

_PACK = "pack it with convoy pack data=image_folder data.root=… output=…"


@dataclass(frozen=True)
class Shard:
    """File of images.

    Attributes:
        file: name of the file.
        begin: first position of the packed order in the file, including skipped images.
        end: position after the last one.
        num_samples: number of images.
        num_bytes: size of the file.
        sha256: checksum of the file, in hexadecimal.
    """

    file: str
    begin: int
    end: int
    num_samples: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """Shards of a split in order, and the file of the table of its samples with its checksum."""

    shards: tuple[Shard, ...]
    table: str
    sha256: str

    @property
    def num_samples(self) -> int:
        return sum(shard.num_samples for shard in self.shards)


@dataclass(frozen=True)
class Index:
    """Description of a packed data set.

    Attributes:
        format: one of `FORMATS`, or `TAR_FORMAT`.
        size: length of the shorter side of the images in pixels; of both sides for raw; 0 if it is not known.
        classes: names of the classes; a label is an index into them.
        splits: train, val and possibly test, by name.
        settings: source and settings of the packing, which `packing` compares.
        skipped: decoder message for each skipped image, by path.
    """

    format: str
    size: int
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    settings: Mapping[str, Any] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> str:
        """Return the text of index.json, in ASCII: names of files may not be UTF-8."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Index:
        """Return the index of a text.

        Raises:
            ValueError: if the text is not JSON, or has another version or format.
            KeyError: if a key is missing.
            TypeError: if a value has another type.
            AttributeError: if a value has another type.
        """
        values = json.loads(text)
        if values["version"] != VERSION:
            raise ValueError(f"version {values['version']}; this Convoy reads version {VERSION}")
        splits = {
            name: Split(tuple(Shard(**shard) for shard in split["shards"]), split["table"], split["sha256"])
            for name, split in values["splits"].items()
        }
        index = cls(
            values["format"], values["size"], tuple(values["classes"]), splits, values["settings"], values["skipped"]
        )
        known = (*FORMATS, TAR_FORMAT)
        if index.format not in known:
            raise ValueError(f"format {index.format}; this Convoy reads {', '.join(known)}")
        return index


def read_index(root: str, storage: Storage | None = None) -> Index:
    """Read the index of the data set at `root`.

    Raises:
        UserError: if there is no index, or it can't be read.
    """
    storage = storage or open_storage(root)
    try:
        text = storage.read(FILE)
    except FileNotFoundError as error:
        rule, remedy = f"has no {FILE}", _PACK
        if storage.has_folder("train"):
            remedy = f"a folder with train/ is read by data=image_folder, or {_PACK}"
        elif missing := storage.missing():
            rule, remedy = missing
        elif any(name.endswith(".tar") for name in storage.sizes() or ()):
            remedy = f"write it with convoy index tars={root}"
        raise UserError(Fault("data.root", rule, remedy, root)) from error
    try:
        return Index.from_json(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        rule = f"{FILE} can't be read ({type(error).__name__}: {error})"
        raise UserError(Fault("data.root", rule, "write it again with convoy pack, or convoy index", root)) from error
