"""Files of a packed data set, written completely or not at all."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def table_bytes(table: NDArray[Any]) -> bytes:
    """Return the contents of an .npy file."""
    buffer = BytesIO()
    np.save(buffer, table)
    return buffer.getvalue()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file completely, or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    partial.replace(path)
