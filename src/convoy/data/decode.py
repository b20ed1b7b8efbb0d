"""Decoding of image files: JPEGs by libjpeg-turbo; other formats, and JPEGs that it can't decode, by Pillow.

Both release the GIL while they decode, so threads run in parallel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from convoy.data import jpeg

_MODES = {1: "L", 3: "RGB"}


class BadImageError(Exception):
    """Error for an image file that can't be decoded.

    Attributes:
        path: path of the file.
        reason: message of the decoder.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class LazyImage:
    """Image that is decoded as far as it is needed.

    Attributes:
        width, height: size in pixels, upright.
        can_shrink: whether the decoder can reduce the image.
        pixels: function of (bottom, factor) that returns uint8 [ceil(height / factor), ceil(width / factor), C]. Rows
            from `bottom` on, counted in the whole image, are undefined. `factor` is 1, or one of `jpeg.FACTORS` if the
            image can shrink. It may raise BadImageError.
    """

    width: int
    height: int
    can_shrink: bool
    pixels: Callable[[int, int], NDArray[np.uint8]]


def open_image(path: str, channels: int) -> LazyImage:
    """Open an image file as gray (1 channel) or RGB (3), upright according to its EXIF orientation.

    Raises:
        BadImageError: the file is missing, truncated, or no image that Pillow can decode.
    """
    try:
        file = jpeg.read_file(path)
    except OSError as error:
        raise BadImageError(path, _reason(error)) from error
    return _picture(file, channels, lambda: decode(path, channels))


def open_encoded(name: str, file: bytearray, channels: int) -> LazyImage:
    """Open an image file whose bytes are in memory.

    Args:
        name: name of the image in errors.
        file: all bytes of the file; decoding a JPEG changes its height field temporarily.
        channels: 1 for gray, 3 for RGB.

    Raises:
        BadImageError: the file is truncated, or no image that Pillow can decode.
    """
    return _picture(file, channels, lambda: _decode(BytesIO(file), name, channels))


def image_of_pixels(array: NDArray[np.uint8], channels: int) -> LazyImage:
    """Return an image that needs no decoding: uint8 [H, W, 1 or 3] as gray (1 channel) or RGB (3)."""
    height, width, given = array.shape

    def pixels(*_: int) -> NDArray[np.uint8]:
        if given == channels:
            return array
        return _array(Image.fromarray(array if given == 3 else array[:, :, 0]).convert(_MODES[channels]))

    return LazyImage(width, height, can_shrink=False, pixels=pixels)


def _picture(file: bytearray, channels: int, by_pillow: Callable[[], Image.Image]) -> LazyImage:
    frame = jpeg.read_frame(file)
    if frame is None or jpeg.is_huge(frame) or (frame.has_metadata and _is_turned(file)):
        image = by_pillow()
        return LazyImage(*image.size, can_shrink=False, pixels=lambda *_: _array(image))

    def pixels(bottom: int, factor: int) -> NDArray[np.uint8]:
        decoded = jpeg.decode_rows(file, frame, channels, bottom, factor)
        if decoded is not None:
            return decoded
        image = by_pillow()
        return _array(image if factor == 1 else image.reduce(factor))

    return LazyImage(frame.width, frame.height, can_shrink=True, pixels=pixels)


def _is_turned(file: bytearray) -> bool:
    """Return whether the metadata give another orientation than upright, or can't be read."""
    try:
        with Image.open(BytesIO(file)) as opened:
            return bool(opened.getexif().get(ExifTags.Base.Orientation, 1) != 1)
    except MemoryError:
        raise
    except Exception:
        return True


def decode(path: str, channels: int) -> Image.Image:
    """Decode an image by Pillow as gray ("L") or "RGB", upright according to its EXIF orientation.

    Raises:
        BadImageError: the file is missing, truncated, or no image that Pillow can decode.
    """
    return _decode(path, path, channels)


def _decode(source: str | BytesIO, name: str, channels: int) -> Image.Image:
    try:
        with Image.open(source) as opened:
            turned = opened.getexif().get(ExifTags.Base.Orientation, 1) != 1
            image = ImageOps.exif_transpose(opened) if turned else opened
            image.load()
            return image if image.mode == _MODES[channels] else image.convert(_MODES[channels])
    except MemoryError:
        raise
    # Pillow's decoders raise any exception for a damaged file.
    except Exception as error:
        raise BadImageError(name, _reason(error)) from error


def _reason(error: Exception) -> str:
    """Return the system's message ("is a directory") without number and path, else the decoder's message."""
    message = getattr(error, "strerror", None)
    return str(message).lower() if message else str(error) or type(error).__name__


def _array(image: Image.Image) -> NDArray[np.uint8]:
    # A copy: memory shared with Pillow is read-only, and torch warns about it.
    pixels: NDArray[np.uint8] = np.array(image)
    return pixels.reshape(*pixels.shape[:2], -1)
