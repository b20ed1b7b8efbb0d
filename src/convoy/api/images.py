"""Images of a caller as files, which are decoded like those of `convoy predict`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convoy.config.faults import Fault, UserError

_RULE = "must be a path, a PIL image, an array [H, W] or [H, W, C], or a tensor [H, W] or [C, H, W]"


@contextmanager
def image_files(images: Any) -> Iterator[tuple[list[str], bool]]:
    """Yield the paths of images, and whether there is a single one. Images in memory are written without loss.

    Args:
        images: see `Run.predict`.

    Raises:
        UserError: if an image has another type, shape or kind of values.
    """
    is_single = isinstance(images, str | os.PathLike) or _is_image(images)
    with tempfile.TemporaryDirectory(prefix="convoy-images-") as folder:
        listed = [images] if is_single else list(images)
        yield [_path(image, Path(folder, f"{index}.png")) for index, image in enumerate(listed)], is_single


def _is_image(value: Any) -> bool:
    """Return whether a value is one image: a PIL image, or an array or tensor without a batch dimension."""
    from PIL import Image

    return isinstance(value, Image.Image) or (hasattr(value, "ndim") and value.ndim in (2, 3))


def _path(image: Any, path: Path) -> str:
    """Return the path of an image, which is written to `path` if it is in memory."""
    from PIL import Image

    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    picture = image if isinstance(image, Image.Image) else Image.fromarray(_pixels(image))
    if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"):
        picture = picture.convert("RGB")
    picture.save(path, compress_level=1)
    return str(path)


def _pixels(image: Any) -> Any:
    """Return an array or tensor as uint8 [H, W] or [H, W, 3]."""
    import numpy as np
    import torch

    if not isinstance(image, torch.Tensor | np.ndarray):
        raise UserError(Fault("images", _RULE, "", type(image).__name__))
    shape = "x".join(map(str, image.shape))
    array: Any = image
    if isinstance(image, torch.Tensor):
        tensor = image.detach().cpu()
        tensor = tensor.permute(1, 2, 0) if tensor.ndim == 3 else tensor
        array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise UserError(Fault("images", f"{_RULE}, with 1 or 3 channels", "", shape))
    if np.issubdtype(array.dtype, np.floating):
        if not (array.size and array.min() >= 0 and array.max() <= 1):
            raise UserError(Fault("images", "floating-point values must be from 0 to 1", "pass uint8 otherwise", shape))
        return np.ascontiguousarray(np.rint(array * 255).astype(np.uint8))
    if array.dtype != np.uint8:
        raise UserError(Fault("images", "values must be uint8 or floating-point", "convert them", str(array.dtype)))
    return np.ascontiguousarray(array)
