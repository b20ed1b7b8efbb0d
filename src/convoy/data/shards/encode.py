"""Image files as they are packed: a JPEG no larger than it need be, or raw pixels."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg

from convoy.data.crop_geometry import size_with_shorter_side
from convoy.data.decode import BadImageError, open_encoded
from convoy.data.folders import ImageFiles
from convoy.data.resize import resize_and_center, resized

QUALITY = 95
AHEAD = 64
"""Images that are encoded before they are written."""

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


@dataclass(frozen=True)
class EncodedImage:
    """An image of the packed order at `position`, or why it has none."""

    position: int
    label: int
    content: bytes | BadImageError


class EncodedImages:
    """The images of a split in the packed order, from a position on; threads encode `AHEAD` of it.

    Attributes:
        position: of the next one.
    """

    def __init__(self, files: ImageFiles, order: Sequence[int], form: str, size: int, pool: ThreadPoolExecutor) -> None:
        """
        Args:
            files: of the split.
            order: indices into them.
            form: one of `index.FORMATS`.
            size: of the packed images, in pixels.
            pool: the threads.
        """
        self.position = 0
        self._files = files
        self._order = order
        self._encode = raw_pixels if form == "raw" else encoded_jpeg
        self._size = size
        self._pool = pool
        self._coming: deque[Future[EncodedImage]] = deque()

    def seek(self, position: int) -> None:
        """Go on at another position."""
        if position != self.position:
            self._coming.clear()
            self.position = position

    def peek(self) -> EncodedImage | None:
        """The image at the position; None at the end."""
        end = min(len(self._order), self.position + AHEAD)
        for position in range(self.position + len(self._coming), end):
            self._coming.append(self._pool.submit(self._image, position))
        return self._coming[0].result() if self._coming else None

    def drop(self) -> None:
        """Go on to the next."""
        self._coming.popleft()
        self.position += 1

    def _image(self, position: int) -> EncodedImage:
        sample = self._order[position]
        content: bytes | BadImageError
        try:
            content = self._encode(self._files.paths[sample], self._size)
        except BadImageError as error:
            content = error
        return EncodedImage(position, self._files.targets[sample], content)
