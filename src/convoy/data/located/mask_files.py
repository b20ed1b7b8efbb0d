"""Reading of mask files: index masks (gray or with a palette), and color masks with a table of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convoy.config.faults import Fault, UserError
from convoy.data.images.decode import open_as_stored
from convoy.data.located.class_table import MaskClasses
from convoy.data.targets import IGNORED, counted

Mask = NDArray[np.uint8]

_LOSSY = (".jpg", ".jpeg")


class MaskReader:
    """Reader of the masks of a data set.

    Args:
        classes: the classes.
        ignored_values: values of index masks that are not counted, besides 255.
    """

    def __init__(self, classes: MaskClasses, ignored_values: Sequence[int]) -> None:
        self._classes = classes
        self._indices = np.full(256, -1, dtype=np.int16)
        self._indices[list(classes.values)] = np.arange(len(classes.values))
        self._indices[[*classes.ignored_values, *ignored_values, IGNORED]] = IGNORED
        if classes.colors is not None:
            colors = [*classes.colors, *classes.ignored_colors]
            indices = [*range(len(classes.colors)), *([IGNORED] * len(classes.ignored_colors))]
            codes = np.array([_code(*color) for color in colors], dtype=np.int64)
            order = codes.argsort()
            self._codes, self._code_indices = codes[order], np.array(indices, dtype=np.uint8)[order]

    def __call__(self, path: str) -> Mask:
        """Return the mask of a file, uint8 [H, W]: indices of the classes, or `IGNORED`.

        Raises:
            BadImageError: if the file can't be decoded.
            UserError: if a value or color is no class.
        """
        return self.of_image(open_as_stored(path), path)

    def of_image(self, image: Image.Image, path: str) -> Mask:
        """Return the mask in an image, as for a file; `path` is its name for errors."""
        if self._classes.colors is not None:
            return self._of_colors(image, path)
        if image.mode not in ("L", "P", "1", "I", "I;16"):
            rule = f"{path} is a color image ({image.mode}), and the classes have no colors"
            remedy = "give data.classes a table with the columns name, red, green and blue, or masks of class indices"
            raise UserError(Fault("data.classes", rule, remedy))
        return self.of_values(np.asarray(image), path)

    def of_values(self, values: NDArray[Any], path: str) -> Mask:
        """Return the mask of whole numbers [H, W], as for a file; `path` is its name for errors."""
        if values.dtype != np.uint8:
            if values.size and (values.max() > IGNORED or values.min() < 0):
                wrong = int(values.min() if values.min() < 0 else values.max())
                remedy = "masks have values from 0 to 255, and pixels of 255 are not counted"
                raise UserError(Fault("data.classes", f"{path} has the value {wrong}", remedy))
            values = values.astype(np.uint8)
        mask: NDArray[np.int16] = self._indices[values]
        if (mask < 0).any():
            raise self._unknown(path, f"the value {int(values[mask < 0].max())}")
        indices: Mask = mask.astype(np.uint8)
        return indices

    def _of_colors(self, image: Image.Image, path: str) -> Mask:
        pixels = np.asarray(image.convert("RGB"), dtype=np.int64)
        codes = _code(pixels[..., 0], pixels[..., 1], pixels[..., 2])
        places = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        is_known = self._codes[places] == codes
        if not is_known.all():
            red, green, blue = pixels[~is_known][0]
            raise self._unknown(path, f"the color [{red},{green},{blue}]")
        indices: Mask = self._code_indices[places]
        return indices

    def _unknown(self, path: str, value: str) -> UserError:
        names = self._classes.names
        remedy = f"the data has {counted(len(names), 'class', 'classes')}; add it to data.classes"
        if self._classes.colors is None:
            remedy += ", or to data.ignored_values to leave its pixels out"
        if path.lower().endswith(_LOSSY):
            remedy = "JPEG changes the values of pixels: save masks as PNG"
        return UserError(Fault("data.classes", f"{path} has {value}, which is no class", remedy))


def _code(
    red: int | NDArray[np.int64], green: int | NDArray[np.int64], blue: int | NDArray[np.int64]
) -> NDArray[np.int64]:
    return np.asarray((red * 256 + green) * 256 + blue)
