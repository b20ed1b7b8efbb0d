"""Decoding of image files: JPEGs by libjpeg-turbo; other formats, and JPEGs that it can't decode, by Pillow.

Both release the GIL while they decode, so threads run in parallel.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from convoy.config.faults import UserError
from convoy.data.images import jpeg
from convoy.data.images.bad_images import BadImageError
from convoy.data.images.channel_arrays import NPY_START, read_channels
from convoy.data.images.pixel_depth import to_mode
from convoy.data.images.pixel_format import PixelFormat
from convoy.data.listing.folders import irregular_kind

_MODES = {1: "L", 3: "RGB"}

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000", "AVIF")
"""Pillow decoders in use. Others run programs (EPS: Ghostscript) or are rarely tested."""


@dataclass(frozen=True)
class LazyImage:
    """Image of which only the required rows are decoded.

    Attributes:
        width: width in pixels, upright.
        height: height in pixels, upright.
        can_shrink: whether the decoder can reduce the image.
        pixels: function of (bottom, factor) that returns uint8 [ceil(height / factor), ceil(width / factor), C]. Rows
            from `bottom` on, counted in the whole image, are undefined. `factor` is 1, or one of `jpeg.FACTORS` if the
            image can shrink. It may raise BadImageError.
        mode: Pillow's name of the pixels in the file, such as RGB, L (gray), CMYK or I;16 (16-bit gray).
        target: target that a data set of the user returned with the image; None if it is stored elsewhere.
    """

    width: int
    height: int
    can_shrink: bool
    pixels: Callable[[int, int], NDArray[np.uint8]]
    mode: str = "RGB"
    target: Any = None

    def part(self, left: int, top: int, width: int, height: int) -> LazyImage:
        """Return a rectangle of the image, which must be inside of it."""

        def pixels(bottom: int, _factor: int) -> NDArray[np.uint8]:
            return self.pixels(top + bottom, 1)[top : top + height, left : left + width]

        return LazyImage(width, height, can_shrink=False, pixels=pixels, mode=self.mode)


def open_image(path: str, form: PixelFormat) -> LazyImage:
    """Open an image file, upright according to its EXIF orientation.

    Raises:
        BadImageError: if the file is missing, truncated, not a regular file, or not an image that Pillow can decode.
    """
    start = _read(path, jpeg.read_file)
    if _is_array(start, form):
        return _array_image(path, read_image(path), form)
    return _picture(start, form, lambda: _decode_file(path, form))


def read_image(path: str) -> bytearray:
    """Return the bytes of an image file.

    Raises:
        BadImageError: if the file can't be read or is not a regular file.
    """
    return _read(path, lambda path: bytearray(Path(path).read_bytes()))


def _read(path: str, read: Callable[[str], bytearray]) -> bytearray:
    try:
        # The check precedes the opening, since opening a named pipe waits for a writer.
        if (kind := irregular_kind(os.stat(path).st_mode)) is not None:  # noqa: PTH116 (a Path for each image costs time)
            raise BadImageError(path, f"is a {kind}")
        return read(path)
    except (OSError, ValueError) as error:
        raise BadImageError(path, _reason(error)) from error


def open_encoded(name: str, file: bytearray, form: PixelFormat) -> LazyImage:
    """Open an image file whose bytes are in memory.

    Args:
        name: name of the image in errors.
        file: all bytes of the file; decoding a JPEG changes its height field temporarily.
        form: format of the pixels.

    Raises:
        BadImageError: if the file is truncated, or not an image that Pillow can decode.
    """
    if _is_array(file, form):
        return _array_image(name, file, form)
    return _picture(file, form, lambda: _decode(BytesIO(file), name, form))


def _is_array(start: bytearray, form: PixelFormat) -> bool:
    """Return whether a file is read by `channel_arrays`, from its first bytes."""
    return not form.is_picture or start[:2] == NPY_START


def _array_image(name: str, file: bytearray, form: PixelFormat) -> LazyImage:
    try:
        pixels = read_channels(file, form)
    except (MemoryError, UserError):
        raise
    # The decoders of TIFF files raise arbitrary exceptions for damaged files.
    except Exception as error:
        raise BadImageError(name, _reason(error)) from error
    return image_of_pixels(pixels, form.channels)


def image_of_pixels(array: NDArray[np.uint8], channels: int, mode: str | None = None) -> LazyImage:
    """Return an image that needs no decoding.

    Args:
        array: pixels, uint8 [H, W, C].
        channels: channels of the result: C, or 1 for RGB and 3 for gray.
        mode: mode of the source, see `LazyImage`; None for that of the pixels.
    """
    height, width, given = array.shape

    def pixels(*_: int) -> NDArray[np.uint8]:
        if given == channels:
            return array
        return _array(Image.fromarray(array if given == 3 else array[:, :, 0]).convert(_MODES[channels]))

    return LazyImage(
        width, height, can_shrink=False, pixels=pixels, mode=mode or _MODES.get(given, f"{given} channels")
    )


def _picture(file: bytearray, form: PixelFormat, by_pillow: Callable[[], _Decoded]) -> LazyImage:
    frame = jpeg.read_frame(file)
    if frame is None or jpeg.is_huge(frame) or (frame.has_metadata and _is_turned(file)):
        image, mode = by_pillow()
        return LazyImage(*image.size, can_shrink=False, pixels=lambda *_: _array(image), mode=mode)

    def pixels(bottom: int, factor: int) -> NDArray[np.uint8]:
        decoded = jpeg.decode_rows(file, frame, form.channels, bottom, factor)
        if decoded is not None:
            return decoded
        image, _ = by_pillow()
        return _array(image if factor == 1 else image.reduce(factor))

    mode = _MODES[frame.num_components]
    return LazyImage(frame.width, frame.height, can_shrink=True, pixels=pixels, mode=mode)


def _is_turned(file: bytearray) -> bool:
    """Return whether the metadata have an orientation other than upright, or can't be read."""
    try:
        with _open(BytesIO(file)) as opened:
            return bool(opened.getexif().get(ExifTags.Base.Orientation, 1) != 1)
    except MemoryError:
        raise
    except Exception:
        return True


def decode(path: str, form: PixelFormat) -> Image.Image:
    """Decode an image by Pillow as gray ("L") or "RGB", upright according to its EXIF orientation.

    Raises:
        BadImageError: if the file is missing, truncated, or not an image that Pillow can decode.
    """
    return _decode_file(path, form).image


def open_as_stored(path: str) -> Image.Image:
    """Decode an image by Pillow in the mode of its file, without turning it, as masks need it.

    Raises:
        BadImageError: if the file is missing, truncated, or not an image that Pillow can decode.
    """
    file = read_image(path)
    try:
        with _open(BytesIO(file)) as opened:
            opened.load()
            return opened.copy()
    except MemoryError:
        raise
    # Pillow's decoders raise arbitrary exceptions for damaged files.
    except Exception as error:
        raise BadImageError(path, _reason(error)) from error


class _Decoded(NamedTuple):
    """Image as gray or RGB, and the mode of its file."""

    image: Image.Image
    mode: str


def _decode_file(path: str, form: PixelFormat) -> _Decoded:
    try:
        # Pillow maps a file opened by name into memory and then garbles rotated uncompressed TIFFs (Pillow 13.0).
        with open(path, "rb") as file:  # noqa: PTH123 (a Path for each image costs time)
            return _decode(file, path, form)
    except OSError as error:
        raise BadImageError(path, _reason(error)) from error


def _decode(source: BinaryIO, name: str, form: PixelFormat) -> _Decoded:
    try:
        with _open(source) as opened:
            turned = opened.getexif().get(ExifTags.Base.Orientation, 1) != 1
            image = ImageOps.exif_transpose(opened) if turned else opened
            image.load()
            converted = to_mode(image, _MODES[form.channels], form, getattr(opened, "tag_v2", None))
            return _Decoded(converted, opened.mode)
    except MemoryError:
        raise
    # Pillow's decoders raise arbitrary exceptions for damaged files.
    except Exception as error:
        raise BadImageError(name, _reason(error)) from error


def _open(source: BinaryIO) -> Image.Image:
    return Image.open(source, formats=_formats())


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that this build of Pillow can decode."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _reason(error: Exception) -> str:
    """Return the system's message ("is a directory") without number and path, else the decoder's message."""
    if isinstance(error, UnidentifiedImageError):
        return "cannot identify the image format"
    message = getattr(error, "strerror", None)
    return str(message).lower() if message else str(error) or type(error).__name__


def _array(image: Image.Image) -> NDArray[np.uint8]:
    # A copy: memory shared with Pillow is read-only, and torch warns about it.
    pixels: NDArray[np.uint8] = np.array(image)
    return pixels.reshape(*pixels.shape[:2], -1)
