"""Samples of a tar file in the format of WebDataset, read once from start to end.

Consecutive members whose names are equal up to the first dot of their last part are a sample: `a/17.jpg`, `a/17.cls`.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from convoy.config.faults import Fault, UserError
from convoy.data.listing.folders import IMAGE_SUFFIXES
from convoy.data.shards.storage import Storage

LABEL_EXTENSIONS = ("cls", "txt", "json")

_PART_BYTES = 8 << 20
_NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class TarImage:
    """Image in a tar file: offset of its first byte, number of bytes, and CRC-32."""

    offset: int
    length: int
    crc32: int


@dataclass
class TarSample:
    """Sample of a tar file.

    Attributes:
        key: name of the members without extension.
        images: images by extension, in lower case.
        labels: contents of the other members that may be labels, by extension.
    """

    key: str
    images: dict[str, TarImage] = field(default_factory=dict)
    labels: dict[str, bytes] = field(default_factory=dict)


class TarScan:
    """Reader of a tar file from start to end.

    Attributes:
        file: name of the file.
        num_bytes: size of the file.
    """

    def __init__(self, storage: Storage, file: str, num_bytes: int, label_extension: str | None) -> None:
        """Store the file.

        Args:
            storage: storage of the file.
            file: its name.
            num_bytes: its size.
            label_extension: extension of the labels; None for any of `LABEL_EXTENSIONS`.
        """
        self.file = file
        self.num_bytes = num_bytes
        self._root = storage.root
        self._content = _SequentialFile(storage, file, num_bytes)
        self._labels = LABEL_EXTENSIONS if label_extension is None else (label_extension,)

    def sha256(self) -> str:
        """Return the checksum of the file, in hexadecimal. After `samples`."""
        return self._content.sha256()

    def samples(self) -> Iterator[TarSample]:
        """Yield the samples; members without an image or a label are none.

        Raises:
            UserError: if the file is compressed, damaged, or not a tar file.
        """
        if self._content.read(2) == _GZIP:
            raise self._fault("is compressed, so its images can't be read in random order", "decompress it")
        self._content.seek(0)
        sample = TarSample("")
        try:
            with tarfile.open(fileobj=self._content, mode="r:") as tar:  # type: ignore[call-overload]
                for member in tar:
                    tar.members = []  # otherwise all headers remain in memory
                    parts = _NAME.fullmatch(member.name)
                    if parts is None or not member.isreg() or member.issparse():
                        continue
                    if parts[1] != sample.key:
                        if sample.images or sample.labels:
                            yield sample
                        sample = TarSample(parts[1])
                    self._add(sample, parts[2].lower(), tar, member)
        except tarfile.TarError as error:
            raise self._fault(f"is not a complete tar file ({error})", "copy it again") from error
        if sample.images or sample.labels:
            yield sample

    def _add(self, sample: TarSample, extension: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        is_image = f".{extension.rpartition('.')[2]}" in IMAGE_SUFFIXES
        if not is_image and extension not in self._labels:
            return
        opened = tar.extractfile(member)
        assert opened is not None, "a regular file"
        content = opened.read()
        if extension in self._labels:
            sample.labels[extension] = content
        else:
            sample.images[extension] = TarImage(member.offset_data, len(content), zlib.crc32(content))

    def _fault(self, rule: str, remedy: str) -> UserError:
        return UserError(Fault("tars", f"{self.file} {rule}", remedy, self._root))


class _SequentialFile:
    """File for `tarfile`, of which each part is fetched once, and whose checksum is computed meanwhile.

    `tarfile` reads forward, except for a last byte that it reads again, so the last two parts are kept.
    """

    def __init__(self, storage: Storage, file: str, num_bytes: int) -> None:
        self._storage = storage
        self._file = file
        self._num_bytes = num_bytes
        self._position = 0
        self._checksum = hashlib.sha256()
        self._num_parts = 0
        self._parts: dict[int, bytes] = {}

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        self._position = position

    def read(self, size: int) -> bytes:
        """Return the next bytes, fewer at the end of the file."""
        end = min(self._position + size, self._num_bytes)
        content = []
        while self._position < end:
            index, begin = divmod(self._position, _PART_BYTES)
            taken = self._part(index)[begin : begin + end - self._position]
            content.append(taken)
            self._position += len(taken)
        return b"".join(content)

    def sha256(self) -> str:
        """Return the checksum of the whole file."""
        self._part((self._num_bytes - 1) // _PART_BYTES)
        return self._checksum.hexdigest()

    def _part(self, index: int) -> bytes:
        while self._num_parts <= index:
            begin = self._num_parts * _PART_BYTES
            end = min(begin + _PART_BYTES, self._num_bytes)
            content = self._storage.read_range(self._file, begin, end)
            if len(content) != end - begin:
                raise tarfile.ReadError("it became shorter while it was read")
            self._checksum.update(content)
            self._parts[self._num_parts] = content
            self._parts.pop(self._num_parts - 2, None)
            self._num_parts += 1
        return self._parts[index]
