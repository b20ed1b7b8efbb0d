"""Forms in which data sets of the user return images, masks and key points: of Pillow, NumPy or torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from convoy.data.images.pixel_depth import to_mode
from convoy.data.images.pixel_format import PICTURE_CHANNELS, PixelFormat
from convoy.data.located.mask_files import Mask, MaskReader


def pixels_of(image: Any, form: PixelFormat) -> NDArray[np.uint8] | None:
    """Return an image as uint8 [H, W, C], or None if it is not an image of gray, RGB or the channels of the config.

    Raises:
        RangeError: if its values can't be scaled to 8 bits.
    """
    if isinstance(image, Image.Image):
        mode = "L" if image.mode == "L" else "RGB"
        image = np.array(to_mode(image, mode, form))
    elif isinstance(image, Tensor):
        image = image.detach().cpu().permute(1, 2, 0).numpy() if image.ndim == 3 else image.detach().cpu().numpy()
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
        return None
    pixels = image[:, :, None] if image.ndim == 2 else image
    allowed = PICTURE_CHANNELS if form.is_picture else (form.channels,)
    return pixels if pixels.shape[2] in allowed else None


def mask_of(value: Any, read: MaskReader, name: str) -> Mask | None:
    """Return a mask as indices of the classes, uint8 [H, W], or None if it is no image and no whole numbers [H, W].

    Raises:
        UserError: if a value or color is no class.
    """
    if isinstance(value, Image.Image):
        return read.of_image(value, name)
    values = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    if isinstance(values, np.ndarray) and values.ndim == 3 and len(values) == 1:
        values = values[0]
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "bui":
        return None
    return read.of_values(values, name)


def points_of(value: Any, count: int) -> NDArray[np.float32] | None:
    """Return key points as x, y and 1 or 0 of each, float32 [count, 3], or None if they are not [count, 2 or 3].

    A point is unknown if its third value is 0, or x or y is no finite number.
    """
    try:
        values = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value, dtype=np.float32)
    except (TypeError, ValueError):
        return None
    if values.shape not in ((count, 2), (count, 3)):
        return None
    is_known = (np.isfinite(values[:, :2]) & (values[:, 2:] > 0).all(1, keepdims=True)).all(1, keepdims=True)
    points = np.concatenate([values[:, :2], np.ones((count, 1), np.float32)], axis=1)
    return np.where(is_known, points, np.float32(0))


def described(value: Any) -> str:
    """Return type, element type and shape of a value."""
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    return kind if shape is None else f"{kind} of {getattr(value, 'dtype', '?')} {list(shape)}"
