"""Folders of images without classes, which a network restores. Imports neither torch nor NumPy.

    root/train/**/*.png  root/val/**/*.png  root/test/**/*.png
    root/**/*.png

Without val, a share of train is held out; without test, there is no test split.
"""

from __future__ import annotations

from pathlib import Path

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.data.listing.folders import IMAGE_SUFFIXES, VAL_NAMES
from convoy.data.listing.image_files import ImageFiles
from convoy.data.targets import IMAGE, Targets

CHANNEL_NAMES = {1: ("gray",), 3: ("red", "green", "blue")}


def restoration_folders(data: DataConfig) -> tuple[Targets, dict[str, ImageFiles], list[str]]:
    """List the images of a folder by split.

    Raises:
        UserError: if there is no such folder, or a split has no images.
    """
    found = {split: _files(folder, data) for split, folder in find_folders(data).items()}
    return Targets(IMAGE, CHANNEL_NAMES[num_channels(data)]), found, []


def num_channels(data: DataConfig) -> int:
    """Return the number of channels of the restored images."""
    return 3 if data.degradation.gray else data.channels


def find_folders(data: DataConfig) -> dict[str, Path]:
    """Return the folders of train, and of val and test if there are any.

    Raises:
        UserError: if there is no such folder.
    """
    remedy = "give a folder with train/, and optionally val/ and test/, or a folder of images"
    if data.root is None:
        raise UserError(Fault("data.root", "is missing", remedy, "null"))
    root = Path(data.root).expanduser()
    if not root.is_dir():
        rule = "is not a folder" if root.exists() else "does not exist"
        raise UserError(Fault("data.root", rule, remedy, data.root))
    names = {"train": ("train",), "val": VAL_NAMES, "test": ("test",)}
    found = {
        split: root / name for split, choices in names.items() for name in reversed(choices) if (root / name).is_dir()
    }
    if found and "train" not in found:
        raise UserError(Fault("data.root", f"has {', '.join(found)} but no train", remedy, data.root))
    return found or {"train": root}


def _files(folder: Path, data: DataConfig) -> ImageFiles:
    paths = [
        str(path)
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not paths:
        raise UserError(Fault("data.root", f"{folder} has no images", "add image files", str(data.root)))
    return ImageFiles(tuple(paths), (None,) * len(paths))
