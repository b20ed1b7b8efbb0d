"""Index of tar files that others have written in the format of WebDataset, so that they are read like packed shards."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from convoy.config.faults import Fault, UserError
from convoy.data.sampling.splits import stratified_split
from convoy.data.shards.shard_index import FILE, TAR_FORMAT, Index, Shard, Split, read_index
from convoy.data.shards.storage import Storage, open_storage
from convoy.data.shards.tar_labels import Label, SampleFormat, class_indices
from convoy.data.shards.tar_scan import TarScan
from convoy.data.shards.writing import table_bytes, write_whole

_WORDS = {"train": "train(?:ing)?", "val": "val(?:id|idation)?", "test": "test(?:ing)?"}
_SPLITS = {split: re.compile(rf"(?<![a-z]){word}(?![a-z])") for split, word in _WORDS.items()}
SPLITS = ("train", "val", "test")

Report = Callable[[str, int], None]
"""Function called for each tar file with its number of images."""


@dataclass(frozen=True)
class Indexing:
    """Tar files and the settings of their index.

    Attributes:
        tars: folder or address of the tar files.
        output: folder of the index.
        image: extension of the images; None if samples have one image.
        label: extension of the labels, or json.FIELD; None for that of the first sample.
        classes: names of the classes; None if the labels give them.
        val_fraction: share of train that is held out for val if no file is named after val.
        skip: whether samples without an image or a label are left out; otherwise the first one is an error.
    """

    tars: str
    output: Path
    image: str | None = None
    label: str | None = None
    classes: tuple[str, ...] | None = None
    val_fraction: float = 0.1
    skip: bool = False


@dataclass(frozen=True)
class _Tar:
    """Samples of a tar file: offset, length and CRC-32 of each image, and its label."""

    file: str
    num_bytes: int
    sha256: str
    rows: list[tuple[int, int, int]]
    labels: list[Label]


def index_tars(indexing: Indexing, report: Report = lambda *_: None) -> Index:
    """Read all tar files once, and write their index.

    Raises:
        UserError: if there are no tar files, one can't be used, or the index can't be written.
    """
    storage = open_storage(indexing.tars)
    sizes = storage.sizes()
    if sizes is None:
        rule = "its files can't be listed"
        raise UserError(Fault("tars", rule, "ask for the permission s3:ListBucket", indexing.tars))
    by_split = _files_by_split(storage, sizes, indexing.tars)
    _check_output(indexing)
    skipped: dict[str, str] = {}
    label_extension = None if indexing.label is None else _extension(indexing.label)
    tars = {}
    for split, files in by_split.items():
        scans = [TarScan(storage, file, sizes[file], label_extension) for file in files]
        tars[split] = list(_scanned(scans, indexing, skipped, report))
    labels = [label for split in tars.values() for tar in split for label in tar.labels]
    if not labels:
        raise UserError(Fault("tars", "have no samples", "give tar files of images and labels", indexing.tars))
    names, indices = class_indices(labels, indexing.classes, indexing.tars)
    parts = {}
    for split, found in tars.items():
        count = sum(len(tar.labels) for tar in found)
        parts[split], indices = _Part.of(found, indices[:count]), indices[count:]
    if "val" not in parts:
        strata = torch.from_numpy(parts["train"].table[:, 2].astype(np.int64))
        kept, held_out = stratified_split(strata, indexing.val_fraction, "val_fraction")
        train = parts["train"]
        parts |= {"train": train.at(kept.numpy()), "val": train.at(held_out.numpy())}
    return _write(indexing, names, {split: parts[split] for split in SPLITS if split in parts}, skipped)


def _files_by_split(storage: Storage, sizes: Mapping[str, int], tars: str) -> dict[str, list[str]]:
    """Return the tar files of each split: those named after val or test, and all others for train."""
    if compressed := sorted(name for name in sizes if name.lower().endswith((".tar.gz", ".tgz"))):
        rule = f"has the compressed file {compressed[0]}"
        remedy = "decompress it, since images in it can't be read in random order, or move it elsewhere"
        raise UserError(Fault("tars", rule, remedy, tars))
    files = sorted(name for name in sizes if name.lower().endswith(".tar"))
    if not files:
        rule, _ = storage.missing() or ("has no .tar files", "")
        raise UserError(Fault("tars", rule, "give the folder of the tar files", tars))
    found: dict[str, list[str]] = {}
    for file in files:
        split = next((split for split in ("val", "test") if _SPLITS[split].search(file.lower())), "train")
        found.setdefault(split, []).append(file)
    if "train" not in found:
        rule = f"all files are named after {' or '.join(found)}, such as {files[0]}"
        raise UserError(Fault("tars", rule, "add the files of train", tars))
    return {split: found[split] for split in SPLITS if split in found}


def _check_output(indexing: Indexing) -> None:
    """Check that the folder has no index of packed shards.

    Raises:
        UserError: if it has one.
    """
    if (indexing.output / FILE).is_file() and read_index(str(indexing.output)).format != TAR_FORMAT:
        rule = "has the index of shards that convoy pack wrote"
        remedy = "they need no other index: convoy train data=shards data.root=…"
        raise UserError(Fault("output", rule, remedy, str(indexing.output)))


def _scanned(scans: Sequence[TarScan], indexing: Indexing, skipped: dict[str, str], report: Report) -> Iterator[_Tar]:
    form: SampleFormat | None = None
    for scan in scans:
        file = scan.file
        rows: list[tuple[int, int, int]] = []
        labels: list[Label] = []
        for sample in scan.samples():
            try:
                form = form or SampleFormat.of(indexing.image, indexing.label, sample)
                image, label = form.image_of(sample), form.label_of(sample)
            except ValueError as error:
                name = f"{file}, sample {sample.key}"
                if not indexing.skip:
                    remedy = "correct it, or write skip=true to leave such samples out"
                    raise UserError(Fault("tars", f"{name} {error}", remedy, indexing.tars)) from error
                skipped[name] = str(error)
                continue
            rows.append((image.offset, image.length, image.crc32))
            labels.append(label)
        report(file, len(rows))
        yield _Tar(file, scan.num_bytes, scan.sha256(), rows, labels)


def _extension(label: str) -> str:
    return "json" if label.startswith("json.") else label


@dataclass(frozen=True)
class _Part:
    """Samples of a split: rows as in `index.COLUMNS`, and the files that have them."""

    table: NDArray[np.uint64]
    shards: tuple[Shard, ...]

    @classmethod
    def of(cls, tars: Sequence[_Tar], indices: Sequence[int]) -> _Part:
        rows = np.array([row for tar in tars for row in tar.rows], dtype=np.uint64).reshape(-1, 3)
        table = np.stack([rows[:, 0], rows[:, 1], np.array(indices, dtype=np.uint64), rows[:, 2]], axis=1)
        ends = np.cumsum([len(tar.rows) for tar in tars]).tolist()
        shards = [
            Shard(tar.file, end - len(tar.rows), end, len(tar.rows), tar.num_bytes, tar.sha256)
            for tar, end in zip(tars, ends, strict=True)
        ]
        return cls(table, tuple(shards))

    def at(self, samples: NDArray[np.int64]) -> _Part:
        """Return the samples at ascending indices; the files remain."""
        shard_of = np.repeat(np.arange(len(self.shards)), [shard.num_samples for shard in self.shards])
        counts = np.bincount(shard_of[samples], minlength=len(self.shards)).tolist()
        shards = [replace(shard, num_samples=count) for shard, count in zip(self.shards, counts, strict=True)]
        return _Part(self.table[samples], tuple(shards))


def _write(indexing: Indexing, classes: tuple[str, ...], parts: Mapping[str, _Part], skipped: dict[str, str]) -> Index:
    splits = {}
    try:
        indexing.output.mkdir(parents=True, exist_ok=True)
        for split, part in parts.items():
            # 64 bits only if a file is larger than 4 GiB.
            is_wide = bool((part.table >= 1 << 32).any())
            content = table_bytes(part.table if is_wide else part.table.astype(np.uint32))
            write_whole(indexing.output / f"{split}.samples.npy", content)
            splits[split] = Split(part.shards, f"{split}.samples.npy", hashlib.sha256(content).hexdigest())
        index = Index(TAR_FORMAT, 0, classes, splits, {}, skipped)
        write_whole(indexing.output / FILE, index.as_json().encode())
    except OSError as error:
        rule = f"can't be written ({error.strerror or error})"
        remedy = "link the tar files into a folder that can be written, and give that folder"
        raise UserError(Fault("output", rule, remedy, str(indexing.output))) from error
    return index
