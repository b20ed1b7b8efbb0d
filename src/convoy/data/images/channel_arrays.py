"""Images with any number of channels: TIFF files, read by tifffile, and arrays of NumPy (.npy).

Pillow reads TIFF files of up to four channels, and only those of 8 bits per channel completely.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from convoy.config.faults import Fault, UserError
from convoy.data.images.pixel_depth import MOST, RangeError, to_bytes
from convoy.data.images.pixel_format import PixelFormat

NPY_START = b"\x93N"
_TIFF_STARTS = (b"II", b"MM")
_CODECS = "imagecodecs"


class ChannelError(Exception):
    """Error for a file with another number of channels, or of another format."""


def read_channels(file: bytes | bytearray, form: PixelFormat) -> NDArray[np.uint8]:
    """Return an image file as uint8 [H, W, C], scaled if it has more than 8 bits.

    Args:
        file: all bytes of the file.
        form: number of channels, and range of the values.

    Raises:
        ChannelError: if the file is neither TIFF nor .npy, or has another number of channels.
        RangeError: if values are outside the range of their type.
        UserError: if tifffile is not installed.
    """
    if file[:2] == NPY_START:
        values = np.load(BytesIO(file), allow_pickle=False)
        if values.ndim == 2:
            values = values[:, :, None]
    elif file[:2] in _TIFF_STARTS:
        values = _read_tiff(file)
    else:
        raise ChannelError(f"is neither TIFF nor .npy, which data.channels={form.channels} requires")
    if values.ndim != 3 or not values.size:
        raise ChannelError(f"has the shape {list(values.shape)} instead of [height, width, channels]")
    # Gray and RGB are converted into each other, as those of other files.
    if values.shape[2] != form.channels and not {values.shape[2], form.channels} <= {1, 3}:
        raise ChannelError(f"has {values.shape[2]} channels, and data.channels is {form.channels}")
    return _as_bytes(values, form)


def _read_tiff(file: bytes | bytearray) -> NDArray[np.generic]:
    """Return the first image of a TIFF file, [H, W, C]; planes or pages of equal size are channels."""
    try:
        import tifffile
    except ImportError as error:
        rule = "TIFF files with this number of channels require the package tifffile"
        raise UserError(Fault("data.channels", rule, "pip install 'convoy[tiff]'")) from error
    with tifffile.TiffFile(BytesIO(file)) as opened:
        series = opened.series[0]
        axes = series.axes
        try:
            values: NDArray[np.generic] = series.asarray(maxworkers=1)
        except (KeyError, ValueError) as error:
            if _CODECS not in str(error):
                raise
            rule = f"a TIFF file has a compression that requires the package {_CODECS}"
            raise UserError(Fault("data.channels", rule, f"pip install {_CODECS}")) from error
    if "Y" not in axes or "X" not in axes:
        raise ChannelError(f"has the axes {axes} instead of height, width and channels")
    rows, columns = axes.index("Y"), axes.index("X")
    # The others are channels: samples of a pixel, planes, or pages.
    values = np.moveaxis(values, (rows, columns), (0, 1))
    return values.reshape(*values.shape[:2], -1)


def _as_bytes(values: NDArray[np.generic], form: PixelFormat) -> NDArray[np.uint8]:
    kind = values.dtype.kind
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values, dtype=np.uint8)
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if kind not in "iuf":
        raise RangeError(f"has values of type {values.dtype}; they must be numbers")
    name = "floating-point" if kind == "f" else f"{values.dtype}"
    return to_bytes(values.astype(np.float64), 1 if kind == "f" else MOST, name, form.value_range)
