"""Tar format of a shard, as in WebDataset: KEY.jpg, then KEY.cls with the class as a decimal number.

See https://github.com/webdataset/webdataset. The headers are those of POSIX.1-1988 (ustar), without owner and time, so
that they are the same on any machine and day.
"""

from __future__ import annotations

import tarfile

END = bytes(2 * tarfile.BLOCKSIZE)
"""End marker of a tar."""


def member(key: str, label: int, num_bytes: int) -> tuple[bytes, bytes]:
    """Return the bytes before and after a JPEG of `num_bytes`."""
    content = str(label).encode()
    label_file = _header(f"{key}.cls", len(content)) + content + _padding(len(content))
    return _header(f"{key}.jpg", num_bytes), _padding(num_bytes) + label_file


def _header(name: str, num_bytes: int) -> bytes:
    """Return a header without an owner, with the time 0."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = num_bytes, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


def _padding(num_bytes: int) -> bytes:
    return bytes(-num_bytes % tarfile.BLOCKSIZE)
