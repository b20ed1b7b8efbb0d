"""Packing of image files into shards, resumable after an interruption.

A shard is written under a temporary name, flushed to disk, renamed, and only then recorded in `.packing/`. Its bytes
depend only on the images and the settings, so shards of an interrupted attempt are reused.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convoy.config.faults import Fault, UserError
from convoy.data.images.bad_images import BadImageError
from convoy.data.images.pixel_format import PixelFormat
from convoy.data.listing.image_files import ImageFiles
from convoy.data.sampling.randomness import Stream, permutation
from convoy.data.shards.encode import EncodedImages, encoded_jpeg, raw_pixels
from convoy.data.shards.shard_images import Table, read_table
from convoy.data.shards.shard_index import COLUMNS, FILE, SUFFIXES, Index, Shard, Split, read_index
from convoy.data.shards.storage import LocalFolder, digest
from convoy.data.shards.tar import END, member
from convoy.data.shards.writing import table_bytes, write_whole

RECORDS = ".packing"
ReportShard = Callable[[str, Shard], None]
"""Function called for each shard with "kept" or "written"."""

Row = tuple[int, int, int, int]
"""Row of the table of samples, see `index.COLUMNS`."""


@dataclass(frozen=True)
class Packing:
    """Source and settings of a packing.

    Attributes:
        classes: names of the classes.
        splits: files of each split.
        output: destination folder.
        format: one of `index.FORMATS`.
        size: length of the shorter side of the images in pixels; of both sides for raw.
        shard_bytes: largest size of a shard, unless a single image is larger.
        seed: seed of the packed order.
        skip: whether images that can't be decoded are skipped; otherwise the first one is an error.
        num_threads: threads that decode and encode.
        form: format of the decoded pixels, RGB.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, ImageFiles]
    output: Path
    format: str = "jpeg"
    size: int = 256
    shard_bytes: int = 256 << 20
    seed: int = 1
    skip: bool = False
    num_threads: int = 1
    form: PixelFormat = field(default_factory=lambda: PixelFormat(3))

    def encode(self, path: str) -> bytes:
        """Return the packed bytes of an image.

        Raises:
            BadImageError: if the image can't be decoded.
        """
        encode = raw_pixels if self.format == "raw" else encoded_jpeg
        return encode(path, self.size, self.form)

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that determine the bytes; the images are identified by their paths below their common folder."""
        names = hashlib.sha256()
        paths = [path for files in self.splits.values() for path in files.paths]
        common = os.path.commonpath(paths)
        for split, files in self.splits.items():
            for path, label in zip(files.paths, files.targets, strict=True):
                names.update(f"{split}\0{os.path.relpath(path, common)}\0{label}\n".encode(errors="surrogateescape"))
        form = {"background": self.form.background, "value_range": self.form.value_range}
        others = {key: list(value) for key, value in form.items() if value is not None}
        return {
            **{"shard_bytes": self.shard_bytes, "seed": self.seed, "skip": self.skip, "files": names.hexdigest()},
            **others,
        }


@dataclass(frozen=True)
class _Written:
    """Shard with its rows of the table, and the decoder message for each skipped image, by path."""

    shard: Shard
    rows: Table
    skipped: dict[str, str]


def pack(packing: Packing, report: ReportShard = lambda *_: None) -> Index:
    """Write the shards that are missing or damaged, and then the index.

    Args:
        packing: source and settings.
        report: see `ReportShard`.

    Raises:
        UserError: if the folder has other contents, an image can't be decoded and must not be skipped, or the disk is
            full.
    """
    output = packing.output
    settings = packing.settings
    known = _known(output, packing, settings)
    try:
        (output / RECORDS).mkdir(parents=True, exist_ok=True)
        skipped: dict[str, str] = {}
        splits = {}
        with _lock(output), ThreadPoolExecutor(packing.num_threads, thread_name_prefix="convoy-pack") as pool:
            write_whole(output / RECORDS / "settings.json", json.dumps(_head(packing, settings)).encode())
            for name, files in packing.splits.items():
                written = list(_split(packing, name, files, known, pool, report))
                table = table_bytes(np.concatenate([part.rows for part in written]))
                write_whole(output / f"{name}.samples.npy", table)
                shards = tuple(part.shard for part in written)
                splits[name] = Split(shards, f"{name}.samples.npy", hashlib.sha256(table).hexdigest())
                for part in written:
                    skipped |= part.skipped
        _check_not_empty(splits)
        index = Index(packing.format, packing.size, packing.classes, splits, settings, skipped)
        write_whole(output / FILE, index.as_json().encode())
        shutil.rmtree(output / RECORDS)
    except OSError as error:
        rule = f"can't be written ({error.strerror or error})"
        raise UserError(Fault("output", rule, "choose another folder, or free disk space", str(output))) from error
    return index


@contextmanager
def _lock(output: Path) -> Iterator[None]:
    """Hold a lock that the kernel releases when this process ends."""
    with (output / RECORDS / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            rule = "another convoy pack is writing to this folder"
            raise UserError(
                Fault("output", rule, "wait until it ends, or choose another folder", str(output))
            ) from error
        yield


def _check_not_empty(splits: Mapping[str, Split]) -> None:
    for name, split in splits.items():
        if split.num_samples == 0:
            raise UserError(Fault("data.root", f"no image of {name} can be decoded", "replace the damaged files"))


def _head(packing: Packing, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": packing.format, "size": packing.size, "classes": list(packing.classes), **settings}


def _known(output: Path, packing: Packing, settings: Mapping[str, Any]) -> dict[str, _Written]:
    """Return the recorded shards by file.

    Raises:
        UserError: if the folder has other contents.
    """
    if not output.exists():
        return {}
    if not output.is_dir():
        raise UserError(Fault("output", "is not a folder", "choose another path", str(output)))
    if (output / FILE).is_file():
        index = read_index(str(output))
        there = {"format": index.format, "size": index.size, "classes": list(index.classes), **index.settings}
        _refuse_other(there, _head(packing, settings), output)
        return _from_index(output, index)
    if not (output / RECORDS).is_dir():
        if any(output.iterdir()):
            raise UserError(Fault("output", "is not empty", "choose a folder that doesn't exist yet", str(output)))
        return {}
    known = {}
    for path in (output / RECORDS).glob("*.json"):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if path.name == "settings.json":
            _refuse_other(values, _head(packing, settings), output)
            continue
        written = _Written(Shard(**values["shard"]), _as_table(values["rows"]), values["skipped"])
        known[written.shard.file] = written
    return known


def _refuse_other(there: Mapping[str, Any], asked: Mapping[str, Any], output: Path) -> None:
    different = [name for name in asked if there.get(name) != asked[name]]
    if asked.get("skip") and there.get("skip") is False:
        different.remove("skip")  # the shards there have no image that would be left out
    if different:
        names = ", ".join("the images" if name == "files" else name for name in different)
        rule = f"has a data set packed with other settings ({names})"
        raise UserError(Fault("output", rule, "choose another folder, or remove this one", str(output)))


def _from_index(output: Path, index: Index) -> dict[str, _Written]:
    """Return the shards of a finished data set, so that damaged shards can be rewritten."""
    storage, known = LocalFolder(str(output)), {}
    for split in index.splits.values():
        try:
            rows = read_table(storage, split)
        except UserError:
            continue
        first = 0
        for shard in split.shards:
            # The index doesn't record the shard of a skipped image; any shard may list it.
            known[shard.file] = _Written(shard, rows[first : first + shard.num_samples], dict(index.skipped))
            first += shard.num_samples
    return known


def _split(
    packing: Packing,
    name: str,
    files: ImageFiles,
    known: Mapping[str, _Written],
    pool: ThreadPoolExecutor,
    report: ReportShard,
) -> Iterator[_Written]:
    order = permutation(packing.seed, 0, len(files), Stream.PACKED_ORDER).tolist()
    images = EncodedImages(files, order, packing.encode, pool)
    storage = LocalFolder(str(packing.output))
    begin = number = 0
    while begin < len(order):
        file = f"{name}-{number:06}.{SUFFIXES[packing.format]}"
        written = known.get(file)
        if written is not None and written.shard.begin == begin and _is_whole(storage, written.shard):
            report("kept", written.shard)
        else:
            images.seek(begin)
            written = _write_shard(packing, file, images, begin)
            record = {"shard": asdict(written.shard), "rows": written.rows.tolist(), "skipped": written.skipped}
            write_whole(packing.output / RECORDS / f"{file}.json", json.dumps(record).encode())
            report("written", written.shard)
        yield written
        begin, number = written.shard.end, number + 1


def _is_whole(storage: LocalFolder, shard: Shard) -> bool:
    try:
        return digest(storage, shard.file) == (shard.num_bytes, shard.sha256)
    except FileNotFoundError:
        return False


def _write_shard(packing: Packing, file: str, images: EncodedImages, begin: int) -> _Written:
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    partial = packing.output / f"{file}.partial"
    checksum, offset = hashlib.sha256(), 0
    end = END if packing.format == "jpeg" else b""
    with partial.open("wb") as opened:

        def write(content: bytes) -> None:
            nonlocal offset
            opened.write(content)
            checksum.update(content)
            offset += len(content)

        while (image := images.peek()) is not None:
            if isinstance(image.content, BadImageError):
                _note_bad(image.content, packing.skip, skipped)
                images.drop()
                continue
            before, after = b"", b""
            if packing.format == "jpeg":
                before, after = member(f"{image.position:08}", image.label, len(image.content))
            size = len(before) + len(image.content) + len(after)
            if rows and offset + size + len(end) > packing.shard_bytes:
                break
            rows.append((offset + len(before), len(image.content), image.label, zlib.crc32(image.content)))
            for part in (before, image.content, after):
                write(part)
            images.drop()
        write(end)
        opened.flush()
        os.fsync(opened.fileno())
    partial.replace(packing.output / file)
    shard = Shard(file, begin, images.position, len(rows), offset, checksum.hexdigest())
    return _Written(shard, _as_table(rows), skipped)


def _note_bad(error: BadImageError, skip: bool, skipped: dict[str, str]) -> None:
    if not skip:
        rule = f"{error.path} can't be decoded ({error.reason})"
        remedy = "repair or remove it, or set data.on_bad_image=skip; finished shards are kept"
        raise UserError(Fault("data.root", rule, remedy)) from error
    skipped[error.path] = error.reason


def _as_table(rows: Sequence[Row]) -> Table:
    return np.array(rows, dtype=np.uint32).reshape(-1, len(COLUMNS))
