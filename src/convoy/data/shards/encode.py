"""Encoding of images for packing: JPEGs of a limited size, or raw pixels."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import simplejpeg

from convoy.data.images.bad_images import BadImageError
from convoy.data.images.crop_geometry import size_with_shorter_side
from convoy.data.images.decode import open_encoded, read_image
from convoy.data.images.pixel_format import PixelFormat
from convoy.data.images.resize import resize_and_center, resized
from convoy.data.listing.image_files import ImageFiles

QUALITY = 95
AHEAD = 64
"""Number of images that are encoded in advance."""

_JPEG = b"\xff\xd8"


def encoded_jpeg(path: str, size: int, form: PixelFormat) -> bytes:
    """Encode an image as a JPEG whose shorter side has at most `size` pixels.

    A JPEG that is small enough is returned unchanged. Others are reduced by the antialiased bilinear filter of val
    images and encoded in gray if their channels are equal.

    Raises:
        BadImageError: if the image can't be decoded completely.
    """
    file = read_image(path)
    image = open_encoded(path, file, form)
    width, height = image.width, image.height
    pixels = image.pixels(height, 1)
    if min(width, height) > size:
        pixels = resized(pixels, *size_with_shorter_side(width, height, size))
    elif file[:2] == _JPEG:
        return bytes(file)
    if (pixels[:, :, 0] == pixels[:, :, 1]).all() and (pixels[:, :, 0] == pixels[:, :, 2]).all():
        gray = np.ascontiguousarray(pixels[:, :, :1])
        return bytes(simplejpeg.encode_jpeg(gray, QUALITY, "GRAY", "Gray"))
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), QUALITY, "RGB", "420"))


def raw_pixels(path: str, size: int, form: PixelFormat) -> bytes:
    """Return the central square after the shorter side was resized to `size`, as bytes of RGB, uint8 [size, size, 3].

    Raises:
        BadImageError: if the image can't be decoded down to the last row of the square.
    """
    image = open_encoded(path, read_image(path), form)
    out = np.empty((size, size, 3), dtype=np.uint8)
    resize_and_center(image, size, out)
    return out.tobytes()


@dataclass(frozen=True)
class EncodedImage:
    """Image at a position of the packed order, or the error that it raised."""

    position: int
    label: int
    content: bytes | BadImageError


class EncodedImages:
    """Images of a split in the packed order, from a position on; threads encode `AHEAD` images in advance.

    Attributes:
        position: position of the next image.
    """

    def __init__(
        self, files: ImageFiles, order: Sequence[int], encode: Callable[[str], bytes], pool: ThreadPoolExecutor
    ) -> None:
        """Store the files and their order; encoding starts with the first `peek`.

        Args:
            files: files of the split.
            order: indices into the files.
            encode: function from the path of an image to its packed bytes.
            pool: threads that encode.
        """
        self.position = 0
        self._files = files
        self._order = order
        self._encode = encode
        self._pool = pool
        self._coming: deque[Future[EncodedImage]] = deque()

    def seek(self, position: int) -> None:
        """Continue at another position."""
        if position != self.position:
            self._coming.clear()
            self.position = position

    def peek(self) -> EncodedImage | None:
        """Return the image at the position, or None at the end."""
        end = min(len(self._order), self.position + AHEAD)
        for position in range(self.position + len(self._coming), end):
            self._coming.append(self._pool.submit(self._image, position))
        return self._coming[0].result() if self._coming else None

    def drop(self) -> None:
        """Continue with the next position."""
        self._coming.popleft()
        self.position += 1

    def _image(self, position: int) -> EncodedImage:
        sample = self._order[position]
        content: bytes | BadImageError
        try:
            content = self._encode(self._files.paths[sample])
        except BadImageError as error:
            content = error
        return EncodedImage(position, self._files.targets[sample], content)
