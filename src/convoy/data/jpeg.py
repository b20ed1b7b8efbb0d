"""JPEGs by libjpeg-turbo straight into memory: no more rows than are needed, smaller where much smaller will do.

A file is read from its markers (ITU-T T.81, annex B) up to the first scan. What is unusual there — CMYK, 12 bits,
arithmetic coding, metadata that may turn the image — is left to Pillow, whose answer is then the only one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

FACTORS = (8, 4, 2)
"""By which a JPEG can be made smaller as it is decoded, from its blocks' lowest frequencies."""

_START, _END = b"\xff\xd8", b"\xff\xd9"
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _APP1 = 0xDA, 0xE1
_WITHOUT_LENGTH = frozenset([0x00, 0x01, *range(0xD0, 0xDA)])
# What is below the last row that is decoded: colours, which have half as many rows, are interpolated between two.
_CONTEXT_ROWS = 4


@dataclass(frozen=True)
class Frame:
    """What the markers tell.

    Attributes:
        width, height: in pixels.
        num_components: 1 for gray, 3 for colours.
        height_at: where in the file the height stands, two bytes, big-endian.
        is_sequential: whether one scan gives all rows in order, so that decoding may stop early.
        has_metadata: whether there is an APP1 segment, in which EXIF or XMP may tell how the image is turned.
    """

    width: int
    height: int
    num_components: int
    height_at: int
    is_sequential: bool
    has_metadata: bool


def read_file(path: str) -> bytearray:
    """The file if it begins as a JPEG does; else its first bytes.

    Raises:
        OSError: if it can't be read.
    """
    with open(path, "rb", buffering=0) as opened:  # noqa: PTH123 (a Path for each image costs time)
        start = bytearray(opened.read(len(_START)))
        return start + opened.read() if start == _START else start


def read_frame(file: bytes | bytearray) -> Frame | None:
    """The frame of a usual JPEG: 8 bits, gray or three colours, Huffman-coded. None for anything else."""
    if file[:2] != _START:
        return None
    width = height = height_at = num_components = coding = 0
    has_metadata = False
    at, last = 2, len(file) - 10
    while at < last and file[at] == 0xFF:
        marker = file[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in _WITHOUT_LENGTH or marker in _OTHER_FRAMES:
            return None
        if marker == _SCAN:
            if not coding:
                return None
            is_sequential = coding != _PROGRESSIVE and file[at + 4] == num_components
            return Frame(width, height, num_components, height_at, is_sequential, has_metadata)
        if _BASELINE <= marker <= _PROGRESSIVE:
            coding, num_components, height_at = marker, file[at + 9], at + 5
            height, width = file[at + 5] << 8 | file[at + 6], file[at + 7] << 8 | file[at + 8]
            if file[at + 4] != 8 or num_components not in (1, 3) or not height or not width:
                return None
        has_metadata |= marker == _APP1
        at += 2 + (file[at + 2] << 8 | file[at + 3])
    return None


def decode_rows(file: bytearray, frame: Frame, channels: int, bottom: int, factor: int = 1) -> NDArray[np.uint8] | None:
    """uint8 [ceil(H / factor), ceil(W / factor), channels], made smaller by `factor`.

    Rows from `bottom` on (counted before they are made fewer) may hold anything. The rows above are what
    libjpeg-turbo gives for the whole file: a sequential file is decoded as if the rows below weren't there.

    Args:
        file: a whole file; what it says of its height is changed for a moment.
        frame: what `read_frame` says of it.
        channels: 1 for gray, 3 for RGB.
        bottom: the first row that isn't needed.
        factor: 1, or one of `FACTORS`.

    Returns:
        None where libjpeg-turbo fails, or is not certain about a file without an end.
    """
    has_end = file.endswith(_END)
    rows = frame.height
    if has_end and frame.is_sequential:
        rows = min(rows, bottom + _CONTEXT_ROWS * factor)
    width, needed = -(-frame.width // factor), -(-rows // factor)
    gray = channels == frame.num_components == 1
    pixels = np.empty((-(-frame.height // factor), width, 1 if gray else 3), dtype=np.uint8)
    whole_height = file[frame.height_at : frame.height_at + 2]
    file[frame.height_at : frame.height_at + 2] = rows.to_bytes(2, "big")
    try:
        # Strict would take the rows that are left out for damage. Where the file has its end, what libjpeg warns of
        # doesn't keep Pillow from giving an image either.
        decoded = simplejpeg.decode_jpeg(
            file,
            colorspace="GRAY" if gray else "RGB",
            min_height=needed if factor > 1 else 0,
            min_width=width if factor > 1 else 0,
            buffer=pixels[:needed],
            strict=not has_end,
        )
    except ValueError:
        return None
    finally:
        file[frame.height_at : frame.height_at + 2] = whole_height
    if decoded.shape != (needed, width, pixels.shape[2]):
        return None
    if channels == pixels.shape[2]:
        return pixels
    # Not the luma as it is stored, which differs from that of RGB wherever a colour had to be cut off.
    return np.array(Image.fromarray(pixels).convert("L"))[:, :, None]


def is_huge(frame: Frame) -> bool:
    """Whether Pillow would take it for an attack on the memory; it then says so in its own words."""
    most = Image.MAX_IMAGE_PIXELS
    return most is not None and frame.width * frame.height > most
