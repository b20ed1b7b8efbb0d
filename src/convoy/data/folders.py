"""Which images lie in a folder, in which split and class. Imports neither torch nor NumPy.

    root/train/CLASS/*.jpg  root/val/CLASS/*.jpg  root/test/CLASS/*.jpg

Without val/, a share of train is held out. Without train/ (root/CLASS/*.jpg), root itself is train. Without
test/, there is no test split: val chooses the best checkpoint, so testing on it would tell too good a result.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convoy.config.faults import Fault, UserError

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
VAL_NAMES = ("val", "valid", "validation")


@dataclass(frozen=True)
class Layout:
    """The folder of each split; None where there is none.

    Attributes:
        notes: what a user may not expect about it, a sentence each.
    """

    train: Path
    val: Path | None
    test: Path | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageFiles:
    """The images of one split, sorted by class and path.

    Attributes:
        paths: of the files.
        labels: indices into the class names, one a path.
    """

    paths: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def at(self, samples: Sequence[int]) -> ImageFiles:
        """Those at the indices `samples`."""
        return ImageFiles(tuple(self.paths[i] for i in samples), tuple(self.labels[i] for i in samples))


def find_layout(root: str) -> Layout:
    """Where the splits lie below `root`.

    Raises:
        UserError: if root is no folder, or has a val or a test folder but no train folder.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise _fault(root, "is not a folder" if folder.exists() else "does not exist", "give the folder of the images")
    val = next((folder / name for name in VAL_NAMES if (folder / name).is_dir()), None)
    test = folder / "test" if (folder / "test").is_dir() else None
    if not (folder / "train").is_dir():
        if val is not None or test is not None:
            present = " and ".join(f"{split.name}/" for split in (val, test) if split is not None)
            raise _fault(root, f"has {present} but no train/", "name the folder of the training images train")
        return Layout(folder, None, None)
    if test is not None and not class_names(test):
        return Layout(folder / "train", val, None, (f"{test} has no class folders, so it is no test split.",))
    return Layout(folder / "train", val, test)


def class_names(folder: Path) -> tuple[str, ...]:
    """The folders in a split's folder, sorted; those whose name begins with a dot don't count."""
    with os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")))


def count_classes(root: str) -> int:
    """How many classes the training images below `root` have; what data.num_classes=null stands for.

    Raises:
        UserError: if there is no folder, or none of classes in it.
    """
    return len(read_classes(find_layout(root)))


def read_classes(layout: Layout) -> tuple[str, ...]:
    """The names of the classes, the same in all splits.

    Raises:
        UserError: if there are none, or if they differ between splits.
    """
    classes = class_names(layout.train)
    if not classes:
        remedy = "put the images of each class into a folder of its own"
        raise UserError(Fault("data.root", f"{layout.train} has no class folders", remedy))
    for split in (layout.val, layout.test):
        if split is None:
            continue
        names = set(class_names(split))
        only_train, only_split = sorted(set(classes) - names), sorted(names - set(classes))
        if only_train or only_split:
            differences = [
                f"{_listed(only)} only in {folder}"
                for only, folder in ((only_train, layout.train), (only_split, split))
                if only
            ]
            rule = f"{split} has other classes than train: {', '.join(differences)}"
            raise UserError(Fault("data.root", rule, "make them the same"))
    return classes


def list_images(folder: Path, classes: Sequence[str]) -> ImageFiles:
    """All images of a split, in folders within a class folder too; other files are passed over.

    Raises:
        UserError: if a class has no image.
    """
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(_images_below(folder / name))
        if not found:
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            remedy = f"remove the folder, or add files ending in {suffixes}"
            raise UserError(Fault("data.root", f"{folder / name} has no images", remedy))
        paths.extend(found)
        labels.extend([label] * len(found))
    return ImageFiles(tuple(paths), tuple(labels))


def _images_below(folder: Path) -> list[str]:
    return [
        os.path.join(parent, name)  # noqa: PTH118 (a Path for each of a million files costs seconds)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name[name.rfind(".") :].lower() in IMAGE_SUFFIXES and not name.startswith(".")
    ]


def _listed(names: Sequence[str], most: int = 5) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _fault(value: str, rule: str, remedy: str) -> UserError:
    return UserError(Fault("data.root", rule, remedy, value))
