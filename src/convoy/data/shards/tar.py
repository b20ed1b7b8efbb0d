"""The tar of a shard as WebDataset has it: KEY.jpg, then KEY.cls with the class as a decimal number.

https://github.com/webdataset/webdataset; the headers are those of POSIX.1-1988 (ustar), the same on any machine and
day.
"""

from __future__ import annotations

import tarfile

END = bytes(2 * tarfile.BLOCKSIZE)
"""What stands at the end of a tar."""


def member(key: str, label: int, num_bytes: int) -> tuple[bytes, bytes]:
    """What stands before and after a JPEG of `num_bytes`."""
    content = str(label).encode()
    label_file = _header(f"{key}.cls", len(content)) + content + _padding(len(content))
    return _header(f"{key}.jpg", num_bytes), _padding(num_bytes) + label_file


def _header(name: str, num_bytes: int) -> bytes:
    """Without an owner, of the time 0."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = num_bytes, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


def _padding(num_bytes: int) -> bytes:
    return bytes(-num_bytes % tarfile.BLOCKSIZE)
