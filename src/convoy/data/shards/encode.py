"""An image file as it is packed: a JPEG no larger than it need be, or raw pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import simplejpeg

from convoy.data.boxes import size_with_shorter_side
from convoy.data.decode import BadImageError, open_encoded
from convoy.data.resize import resize_and_center, resized

QUALITY = 95
_JPEG = b"\xff\xd8"


def encoded_jpeg(path: str, size: int) -> bytes:
    """The image as a JPEG whose shorter side is at most `size` pixels; a JPEG that is so already, byte for byte.

    Resized by the antialiased bilinear filter that val images go through, never enlarged; gray where all its colours
    are equal.

    Raises:
        BadImageError: if it can't be decoded, all of it.
    """
    file = _read(path)
    picture = open_encoded(path, file, 3)
    width, height = picture.width, picture.height
    pixels = picture.pixels(height, 1)
    if min(width, height) > size:
        pixels = resized(pixels, *size_with_shorter_side(width, height, size))
    elif file[:2] == _JPEG:
        return bytes(file)
    if (pixels[:, :, 0] == pixels[:, :, 1]).all() and (pixels[:, :, 0] == pixels[:, :, 2]).all():
        gray = np.ascontiguousarray(pixels[:, :, :1])
        return bytes(simplejpeg.encode_jpeg(gray, QUALITY, "GRAY", "Gray"))
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), QUALITY, "RGB", "420"))


def raw_pixels(path: str, size: int) -> bytes:
    """uint8 [size, size, 3] of RGB: the centre, after the shorter side was resized to `size`.

    Raises:
        BadImageError: if it can't be decoded as far as the centre reaches.
    """
    picture = open_encoded(path, _read(path), 3)
    out = np.empty((size, size, 3), dtype=np.uint8)
    resize_and_center(picture, size, out)
    return out.tobytes()


def _read(path: str) -> bytearray:
    try:
        return bytearray(Path(path).read_bytes())
    except OSError as error:
        raise BadImageError(path, str(error) or type(error).__name__) from error
