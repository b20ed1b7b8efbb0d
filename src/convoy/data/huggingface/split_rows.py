"""Rows of one split of a data set of Hugging Face: columns of targets, and encoded images. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from convoy.data.listing.image_files import ImageBlocks


class SplitRows(Protocol):
    """Rows of a split.

    Attributes:
        features: features of the columns, by name.
    """

    features: Mapping[str, Any]

    def __len__(self) -> int: ...

    def column(self, name: str) -> list[Any]:
        """Return a column as Python values; no other column is read."""
        ...

    def contents(self, column: str) -> Callable[[int], bytes] | None:
        """Return the function that reads an encoded image by its row; None if there are `blocks`."""
        ...

    def blocks(self, column: str) -> ImageBlocks | None:
        """Return the blocks in which encoded images are read; None if they are read one by one."""
        ...


class MappedRows:
    """Rows of a `datasets.Dataset` in Arrow files that are mapped into memory. See `SplitRows`."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.features: Mapping[str, Any] = dataset.features

    def __len__(self) -> int:
        return len(self._dataset)

    def column(self, name: str) -> list[Any]:
        """See `SplitRows`."""
        values: list[Any] = self._dataset.select_columns([name]).with_format("arrow")[:][name].to_pylist()
        return values

    def contents(self, column: str) -> Callable[[int], bytes]:
        """See `SplitRows`."""
        from datasets import Image

        images = self._dataset.select_columns([column])
        if isinstance(images.features[column], Image):
            images = images.cast_column(column, Image(decode=False))
        return lambda row: encoded_image(images[row][column], column, row)

    def blocks(self, column: str) -> None:
        """See `SplitRows`."""


def encoded_image(value: Any, column: str, row: int) -> bytes:
    """Return the bytes of an image.

    Args:
        value: bytes, or {bytes, path} as `datasets` stores them.
        column: column of the image, for errors.
        row: row of the image, for errors.

    Raises:
        BadImageError: if there are no bytes, and no file at the path.
    """
    from convoy.data.images.bad_images import BadImageError
    from convoy.data.images.decode import read_image

    content = value.get("bytes") if isinstance(value, Mapping) else value
    if content is not None:
        return bytes(content)
    path = value.get("path") if isinstance(value, Mapping) else None
    if path is None or not Path(path).exists():
        raise BadImageError(f"row {row} of column {column}", f"{path or 'no image'} does not exist")
    return bytes(read_image(path))
