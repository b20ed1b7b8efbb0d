"""Image files whose paths are written in a table or a list. Imports neither torch nor NumPy."""

from __future__ import annotations

import os
import re
from pathlib import Path

SUFFIXES_ADDED = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
"""Suffixes that a path may lack."""

_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def existing_file(path: str) -> str | None:
    """Return the image file at a path, or None if there is none.

    Backslashes are read as slashes, and a missing suffix is added, if there is such a file.
    """
    if os.path.isfile(path):  # noqa: PTH113 (a Path for each image costs time)
        return path
    slashes = path.replace("\\", "/")
    for suffix in ("", *SUFFIXES_ADDED):
        if os.path.isfile(slashes + suffix):  # noqa: PTH113
            return slashes + suffix
    return None


def missing_remedy(path: str, root: Path, also: str = "") -> str:
    """Return the correction of a path without a file: another data.root, or the place of a file of that name.

    Args:
        path: the path, below `root`.
        root: folder that paths are relative to.
        also: settings that another data.root needs.
    """
    given = path[len(str(root)) + 1 :] if path.startswith(f"{root}/") else path
    if _WINDOWS_DRIVE.match(given):
        return "write paths relative to data.root instead of a drive of Windows"
    given = given.replace("\\", "/")
    below = [child for child in sorted(root.iterdir()) if child.is_dir()] if root.is_dir() else []
    for folder in (*below, root.parent):
        if existing_file(str(folder / given)):
            return f"write data.root={folder}{also}, the folder that the paths are relative to"
    for folder in (root, *below):
        if found := existing_file(str(folder / Path(given).name)):
            return f"there is {found}: correct the paths, which are relative to {root}"
    return f"the paths are relative to {root}; data.root=… names another folder"
