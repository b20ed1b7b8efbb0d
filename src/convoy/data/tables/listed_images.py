"""Images of a table by split: files that are checked, or encoded images of a Parquet file. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.data.listing.folders import irregular_kind
from convoy.data.listing.image_files import ImageFiles
from convoy.data.listing.listed_paths import existing_file, missing_remedy
from convoy.data.tables.image_table import ImageTable, image_root, read_table
from convoy.data.targets import Targets, counted


def table_images(data: DataConfig) -> tuple[Targets, dict[str, ImageFiles], list[str]]:
    """Return the targets of a table, its images by split, and notes.

    Raises:
        UserError: if the table can't be used, or images are missing.
    """
    table = read_table(data)
    if table.file is None:
        images = ImageFiles(existing_paths(data, table), table.rows, groups=table.groups)
    else:
        contents = _contents(data, table)
        rows = tuple(line - 1 for line in table.lines)
        images = ImageFiles(table.paths, table.rows, groups=table.groups, contents=contents.__getitem__, rows=rows)
    if table.splits is None:
        return table.targets, {"train": images}, list(table.notes)
    places: dict[str, list[int]] = {}
    for place, split in enumerate(table.splits):
        places.setdefault(split, []).append(place)
    return table.targets, {split: images.at(samples) for split, samples in places.items()}, list(table.notes)


def existing_paths(data: DataConfig, table: ImageTable) -> tuple[str, ...]:
    """Return the image files of a table, see `existing_file`.

    Raises:
        UserError: if files are missing; the message names the line of the first one and their number.
    """
    paths = list(table.paths)
    missing = []
    for place, path in enumerate(paths):
        if (found := existing_file(path)) is None:
            missing.append(place)
        else:
            paths[place] = found
    if missing:
        first = missing[0]
        path, images = paths[first], f"{counted(len(missing), 'image')} of {len(paths):,}"
        rule = f"{path} does not exist ({images} missing)"
        if os.path.exists(path):  # noqa: PTH110
            rule = f"{path} is a {irregular_kind(os.stat(path).st_mode)} ({images} are no files)"  # noqa: PTH116
        shown = f"{table.unit} {table.lines[first]}"
        raise UserError(
            Fault(
                "data.image_column", f"{shown}: {rule}", missing_remedy(path, Path(image_root(data))), data.image_column
            )
        )
    return tuple(paths)


def _contents(data: DataConfig, table: ImageTable) -> list[bytes]:
    """Return the encoded images of a Parquet file by row.

    Raises:
        UserError: if a row has no image.
    """
    assert table.file is not None
    root = image_root(data)
    contents: list[bytes] = []
    for row, value in enumerate(table.file.column(str(data.image_column)), 1):
        content = value
        if isinstance(value, Mapping):
            content = value["bytes"] if value["bytes"] is not None else _file(root, value)
        if not isinstance(content, bytes):
            remedy = "remove the row, or add its image"
            raise UserError(Fault("data.image_column", f"row {row} has no image", remedy, data.image_column))
        contents.append(content)
    return contents


def _file(root: str, value: Mapping[str, Any]) -> bytes | None:
    path = value.get("path")
    file = None if path is None else Path(root) / path
    return file.read_bytes() if file is not None and file.is_file() else None
