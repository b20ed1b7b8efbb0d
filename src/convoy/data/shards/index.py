"""What index.json says of a packed set. Imports neither torch nor NumPy.

Beside it lie the shards of each split and, for each split, a table of its samples (see `COLUMNS`).
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
SUFFIXES = {"jpeg": "tar", "raw": "u8"}
COLUMNS = ("offset", "length", "label", "crc32")
"""Of the table of a split's samples, an .npy of uint32 [samples, 4]: where in its shard an image's bytes begin, how
many they are, its class, and their checksum as in zlib.crc32. The samples stand in the order of the shards."""

_PACK = "pack it with convoy pack data=image_folder data.root=… output=…"


@dataclass(frozen=True)
class Shard:
    """A file of images.

    Attributes:
        file: its name.
        begin, end: the part of the packed order that it holds, images that were left out counted in.
        num_samples: images in it.
        num_bytes: its size.
        sha256: of all of it, in hexadecimal.
    """

    file: str
    begin: int
    end: int
    num_samples: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """The shards of a split in order, and the file of its samples' table with its checksum."""

    shards: tuple[Shard, ...]
    table: str
    sha256: str

    @property
    def num_samples(self) -> int:
        return sum(shard.num_samples for shard in self.shards)


@dataclass(frozen=True)
class Index:
    """All that is known of a packed set without its images.

    Attributes:
        format: one of `FORMATS`.
        size: of the images' shorter side in pixels; of both sides where raw.
        classes: names; a label is an index into them.
        splits: train, val and maybe test, by name.
        settings: what the set was packed from and how, as `packing` compares it.
        skipped: images that were left out, and why, by path.
    """

    format: str
    size: int
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    settings: Mapping[str, Any] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> str:
        """The text of index.json."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Index:
        """From the text of index.json.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is something else.
        """
        values = json.loads(text)
        if values["version"] != VERSION:
            raise ValueError(f"version {values['version']}, where this Convoy reads {VERSION}")
        splits = {
            name: Split(tuple(Shard(**shard) for shard in split["shards"]), split["table"], split["sha256"])
            for name, split in values["splits"].items()
        }
        index = cls(
            values["format"], values["size"], tuple(values["classes"]), splits, values["settings"], values["skipped"]
        )
        if index.format not in FORMATS:
            raise ValueError(f"format {index.format}, where this Convoy reads {' and '.join(FORMATS)}")
        return index


def read_index(root: str, storage: Storage | None = None) -> Index:
    """The index of the set at `root`.

    Raises:
        UserError: if there is none, or it can't be read.
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
        raise UserError(Fault("data.root", rule, remedy, root)) from error
    try:
        return Index.from_json(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        rule = f"{FILE} can't be read ({type(error).__name__}: {error})"
        raise UserError(Fault("data.root", rule, "pack it again with convoy pack", root)) from error
