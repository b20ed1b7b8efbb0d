"""Decoding of JPEGs by libjpeg-turbo: only the required rows, and at a reduced size if possible.

The markers (ITU-T T.81, annex B) are read up to the first scan. Pillow decodes unusual files (CMYK, 12 bits,
arithmetic coding, metadata with an orientation).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

FACTORS = (8, 4, 2)
"""Factors by which a JPEG can be reduced during decoding, using only the lowest frequencies of its blocks."""

_START, _END = b"\xff\xd8", b"\xff\xd9"
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _APP1 = 0xDA, 0xE1
_WITHOUT_LENGTH = frozenset([0x00, 0x01, *range(0xD0, 0xDA)])
# Rows decoded below the last one needed: chroma, which has half as many rows, is interpolated between two rows.
_CONTEXT_ROWS = 4


@dataclass(frozen=True)
class Frame:
    """Contents of the markers.

    Attributes:
        width: width in pixels.
        height: height in pixels.
        num_components: 1 for gray, 3 for color.
        height_at: position of the height in the file, two bytes, big-endian.
        is_sequential: whether one scan contains all rows in order, so that decoding can stop early.
        has_metadata: whether there is an APP1 segment (EXIF or XMP), which may contain an orientation.
    """

    width: int
    height: int
    num_components: int
    height_at: int
    is_sequential: bool
    has_metadata: bool


def read_file(path: str) -> bytearray:
    """Return the bytes of a JPEG, or only the first bytes of another file.

    Raises:
        OSError: if the file can't be read.
    """
    with open(path, "rb", buffering=0) as opened:  # noqa: PTH123 (a Path for each image costs time)
        start = bytearray(opened.read(len(_START)))
        return start + opened.read() if start == _START else start


def read_frame(file: bytes | bytearray) -> Frame | None:
    """Return the frame of a usual JPEG (8 bits, one or three components, Huffman coding), or None for other files."""
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
    """Decode a JPEG, reduced by `factor`.

    The rows above `bottom` equal those of the whole file. A sequential file is decoded as if the rows below did not
    exist.

    Args:
        file: all bytes of the file; its height field is changed temporarily.
        frame: result of `read_frame`.
        channels: 1 for gray, 3 for RGB.
        bottom: first row that isn't needed, counted in the whole image; the result is undefined from there on.
        factor: 1, or one of `FACTORS`.

    Returns:
        uint8 [ceil(H / factor), ceil(W / factor), channels], or None if libjpeg-turbo fails or warns about a file
        without an end marker.
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
        # Strict mode would treat the omitted rows as damage. Where the file has its end marker, Pillow returns an image
        # despite libjpeg's warnings too.
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
    # Not the stored luma, which differs from that of RGB wherever a color was clipped.
    return np.array(Image.fromarray(pixels).convert("L"))[:, :, None]


def is_huge(frame: Frame) -> bool:
    """Return whether Pillow refuses the size as a decompression bomb; its error is then the one reported."""
    most = Image.MAX_IMAGE_PIXELS
    return most is not None and frame.width * frame.height > most
