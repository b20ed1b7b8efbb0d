"""Image folders: files of each split and class. Imports neither torch nor NumPy.

    root/train/CLASS/*.jpg  root/val/CLASS/*.jpg  root/test/CLASS/*.jpg

Without val/, a share of train is held out. Without train/ (root/CLASS/*.jpg), root itself is train. Without test/,
there is no test split: val chooses the best checkpoint, so a test on val would be biased.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from convoy.config.faults import Fault, UserError
from convoy.data.listing.image_files import ImageFiles
from convoy.data.targets import listed

IMAGE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".jp2",
    ]
)
_LISTED_SUFFIXES = IMAGE_SUFFIXES | {".npy"}
"""Suffixes of images in folders. In a tar file, an array may belong to the image of its sample."""
VAL_NAMES = ("val", "valid", "validation")


@dataclass(frozen=True)
class Layout:
    """Folder of each split; None if there is no such split.

    Attributes:
        notes: facts that a user may not expect, one sentence each.
    """

    train: Path
    val: Path | None
    test: Path | None
    notes: tuple[str, ...] = ()


def find_layout(root: str) -> Layout:
    """Return the folders of the splits below `root`.

    Raises:
        UserError: if root is not a folder, or has a val or a test folder but no train folder.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise _fault(root, "is not a folder" if folder.exists() else "does not exist", "give the folder of the images")
    val = next((folder / name for name in VAL_NAMES if (folder / name).is_dir()), None)
    test = folder / "test" if (folder / "test").is_dir() else None
    if not (folder / "train").is_dir():
        if val is not None or test is not None:
            present = " and ".join(f"{split.name}/" for split in (val, test) if split is not None)
            raise _fault(root, f"has {present} but no train/", "rename the folder of the training images to train")
        return Layout(folder, None, None)
    if test is not None and not class_names(test):
        return Layout(folder / "train", val, None, (f"{test} has no class folders, so it is not a test split.",))
    return Layout(folder / "train", val, test)


def class_names(folder: Path) -> tuple[str, ...]:
    """Return the names of a split's class folders, sorted; names that begin with a dot are ignored."""
    with os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")))


def count_classes(root: str) -> int:
    """Return the number of classes of the training images below `root`, used if data.num_classes is null.

    Raises:
        UserError: if there is no such folder, or it has no class folders.
    """
    return len(read_classes(find_layout(root)))


def read_classes(layout: Layout) -> tuple[str, ...]:
    """Return the names of the classes, which are the class folders of train.

    Raises:
        UserError: if there are none, or val or test has a class that train does not have.
    """
    classes = class_names(layout.train)
    if not classes:
        remedy = "put the images of each class into a folder with the class's name"
        raise UserError(Fault("data.root", f"{layout.train} has no class folders", remedy))
    for split in (layout.val, layout.test):
        unknown = sorted(set(class_names(split)) - set(classes)) if split is not None else []
        if unknown:
            rule = f"{split} has classes that {layout.train} does not have: {listed(unknown)}"
            raise UserError(Fault("data.root", rule, "add training images of these classes, or remove the folders"))
    return classes


def list_images(folder: Path, classes: Sequence[str], *, complete: bool = True) -> ImageFiles:
    """Return all images of a split, including those in subfolders of a class folder; other files are ignored.

    Args:
        folder: folder of the split.
        classes: names of the class folders, in the order of their indices.
        complete: whether each class must have an image.

    Raises:
        UserError: if a class has no image and `complete` is set, no class has an image, or a folder can't be read.
    """
    paths: list[str] = []
    labels: list[int] = []
    notes: list[str] = []
    suffixes = ", ".join(sorted(_LISTED_SUFFIXES))
    for label, name in enumerate(classes):
        images = sorted(_images_below(folder / name, notes)) if (folder / name).exists() else []
        if complete and not images:
            remedy = f"remove the folder, or add files ending in {suffixes}"
            raise UserError(Fault("data.root", f"{folder / name} has no images", remedy))
        paths.extend(images)
        labels.extend([label] * len(images))
    if not paths:
        raise UserError(Fault("data.root", f"{folder} has no images", f"add files ending in {suffixes}"))
    return ImageFiles(tuple(paths), tuple(labels), tuple(notes))


def _images_below(folder: Path, notes: list[str]) -> Iterator[str]:
    """Yield the image files below a folder. Each folder is read once, since links can form cycles."""
    visited = {_identity(parent) for parent in (folder.parent, *folder.resolve().parents)}
    for parent, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        if (identity := _identity(parent)) in visited:
            notes.append(f"{parent} links to a folder that contains it or was already read, so it was skipped.")
            folders.clear()
            continue
        visited.add(identity)
        folders.sort()
        notes += [f"{parent}/{name} is a folder, although its name ends like an image's." for name in _images(folders)]
        yield from (os.path.join(parent, name) for name in _images(names))  # noqa: PTH118 (speed)


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)  # noqa: PTH116 (a Path for each folder costs time)
    return status.st_dev, status.st_ino


def _images(names: Iterable[str]) -> Iterator[str]:
    """Yield the names with an image suffix, except hidden files."""
    return (name for name in names if name[name.rfind(".") :].lower() in _LISTED_SUFFIXES and not name.startswith("."))


def _refuse(error: OSError) -> NoReturn:
    rule = f"can't be read ({str(error.strerror).lower()})"
    raise _fault(str(error.filename), rule, "correct its permissions, or remove it") from error


def irregular_kind(mode: int) -> str | None:
    """Return the kind of a file that is not a regular file, given its `st_mode`, or None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    kinds = {stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket", stat.S_IFDIR: "folder"}
    return kinds.get(stat.S_IFMT(mode), "device")


def _fault(value: str, rule: str, remedy: str) -> UserError:
    return UserError(Fault("data.root", rule, remedy, value))
