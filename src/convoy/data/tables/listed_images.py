"""Images of a table by split: files that are checked, or encoded images of a Parquet file. Imports no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convoy.config.faults import Fault, UserError
from convoy.config.schema import DataConfig
from convoy.data.folders import irregular_kind
from convoy.data.image_files import ImageFiles
from convoy.data.tables.image_table import ImageTable, image_root, read_table
from convoy.data.targets import Targets, counted

_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


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
    """Return the image files of a table, with slashes where the table has the backslashes of Windows.

    Raises:
        UserError: if files are missing; the message names the line of the first one and their number.
    """
    paths = list(table.paths)
    missing = []
    for place, path in enumerate(paths):
        if os.path.isfile(path):  # noqa: PTH113 (speed)
            continue
        slashes = path.replace("\\", "/")
        if slashes != path and os.path.isfile(slashes):  # noqa: PTH113
            paths[place] = slashes
            continue
        missing.append(place)
    if missing:
        first = missing[0]
        path, images = paths[first], f"{counted(len(missing), 'image')} of {len(paths):,}"
        rule = f"{path} does not exist ({images} missing)"
        if os.path.exists(path):  # noqa: PTH110
            rule = f"{path} is a {irregular_kind(os.stat(path).st_mode)} ({images} are no files)"  # noqa: PTH116
        shown = f"{table.unit} {table.lines[first]}"
        raise UserError(Fault("data.image_column", f"{shown}: {rule}", _remedy(data, path), data.image_column))
    return tuple(paths)


def _remedy(data: DataConfig, path: str) -> str:
    root = Path(image_root(data))
    given = path[len(str(root)) + 1 :] if path.startswith(f"{root}/") else path
    if _WINDOWS_DRIVE.match(given):
        return "write paths relative to data.root instead of a drive of Windows"
    given = given.replace("\\", "/")
    with_suffix = [f"{given}{suffix}" for suffix in (".jpg", ".png", ".jpeg") if (root / f"{given}{suffix}").is_file()]
    if with_suffix:
        return f"there is {with_suffix[0]}: write the names of the files with their suffix"
    name = Path(given).name
    below = [child for child in sorted(root.iterdir()) if child.is_dir()] if root.is_dir() else []
    for folder in (*below, root.parent):
        if (folder / given).is_file():
            return f"write data.root={folder}, the folder that the paths are relative to"
    for folder in (root, *below):
        if (folder / name).is_file():
            return f"there is {folder / name}: correct the paths, which are relative to {root}"
    return "paths are relative to data.root, which is the table's folder by default"


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
