"""Lists of the images of each split: train.txt, val.txt and test.txt. Imports neither torch nor NumPy.

A line is a path relative to data.root, optionally followed by a space and the class. Without a class, the folder of the
image names it. The first line of train.txt decides which of the two forms all lists have.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.data.listing.folders import VAL_NAMES
from convoy.data.listing.image_files import ImageFiles
from convoy.data.listing.listed_paths import existing_file, missing_remedy
from convoy.data.targets import counted, listed

Line = tuple[int, str, str]
"""Number of a line, path below data.root, and class."""


@dataclass(frozen=True)
class SplitLists:
    """Lists of the images of a folder.

    Attributes:
        root: folder that the paths are relative to.
        files: list of each split: train, and val and test if there are any.
    """

    root: Path
    files: dict[str, Path]

    def shown(self) -> str:
        """Return the paths of the lists, separated by commas."""
        return ", ".join(str(file) for file in self.files.values())


def find_lists(data: DataConfig) -> SplitLists | None:
    """Return the lists in `data.split_files`, or in `data.root` if it has a train.txt, but no train/.

    Raises:
        UserError: if `data.split_files` has no train.txt.
    """
    root = Path(data.root or "").expanduser()
    if data.root is None or not root.is_dir():
        return None
    folder = root
    if data.split_files is not None:
        folder = root / Path(data.split_files).expanduser()
        if not (folder / "train.txt").is_file():
            rule = f"{folder} has no train.txt" if folder.is_dir() else f"{folder} is not a folder"
            remedy = "give the folder of train.txt, val.txt and test.txt, relative to data.root"
            raise UserError(Fault("data.split_files", rule, remedy, data.split_files))
    elif not (root / "train.txt").is_file() or (root / "train").is_dir():
        return None
    names = {"train": ("train",), "val": VAL_NAMES, "test": ("test",)}
    found = {
        split: next((folder / f"{name}.txt" for name in choices if (folder / f"{name}.txt").is_file()), None)
        for split, choices in names.items()
    }
    return SplitLists(root, {split: path for split, path in found.items() if path is not None})


def list_classes(lists: SplitLists) -> tuple[str, ...]:
    """Return the names of the classes in train.txt, sorted as text.

    Raises:
        UserError: if a list can't be read, or a line has no class.
    """
    train = _read(lists.files["train"], lists.root, _has_classes(lists))
    return tuple(sorted({name for _, _, name in train}))


def list_files(lists: SplitLists) -> tuple[tuple[str, ...], dict[str, ImageFiles]]:
    """Return the names of the classes, and the images of each split in the order of its list.

    Raises:
        UserError: if a list can't be read, a file is missing, an image is listed twice, or val or test has a class that
            train does not have.
    """
    has_classes = _has_classes(lists)
    classes = list_classes(lists)
    index = {name: label for label, name in enumerate(classes)}
    listed_at: dict[str, str] = {}
    splits = {}
    for split, file in lists.files.items():
        lines = _read(file, lists.root, has_classes)
        if unknown := sorted({name for _, _, name in lines} - set(classes)):
            rule = f"{file} has classes that {lists.files['train']} does not have: {listed(unknown)}"
            raise UserError(Fault("data.root", rule, "add training images of these classes, or remove the lines"))
        paths = _existing(file, lines, lists.root)
        for path, (number, _, _) in zip(paths, lines, strict=True):
            place = f"{file}, line {number}"
            if listed_at.setdefault(path, place) != place:
                rule = f"{path} is listed twice: {listed_at[path]}, and {place}"
                raise UserError(Fault("data.root", rule, "keep one of the lines"))
        splits[split] = ImageFiles(tuple(paths), tuple(index[name] for _, _, name in lines))
    return classes, splits


def _has_classes(lists: SplitLists) -> bool:
    """Return whether the first line of train.txt ends with a class: with all of it, it names no file."""
    file = lists.files["train"]
    first = next(iter(_lines(file)), None)
    if first is None:
        raise UserError(Fault("data.root", f"{file} is empty", "write one path per line"))
    number, text = first
    if existing_file(str(lists.root / text)):
        return False
    path = text.rpartition(" ")[0].rstrip()
    if path and existing_file(str(lists.root / path)):
        return True
    also = f" data.split_files={file.parent.resolve()}"
    remedies = [missing_remedy(str(lists.root / one), lists.root, also) for one in (text, path or text)]
    remedy = next((one for one in remedies if also in one), remedies[0])
    rule = f"{file}, line {number}: neither {text} nor {path or text} exists"
    raise UserError(Fault("data.root", rule, remedy, str(lists.root)))


def _lines(file: Path) -> list[tuple[int, str]]:
    """Return the lines that are not empty, with their numbers; tabs become spaces."""
    try:
        texts = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(Fault("data.root", f"{file} can't be read ({error})", "write it in UTF-8")) from error
    return [(number, text.replace("\t", " ").strip()) for number, text in enumerate(texts, 1) if text.strip()]


def _read(file: Path, root: Path, has_classes: bool) -> list[Line]:
    lines: list[Line] = []
    for number, text in _lines(file):
        path, _, name = text.rpartition(" ") if has_classes else (text, "", "")
        if not has_classes:
            name = Path(path.replace("\\", "/")).parent.name
        if not path or not name:
            rule = f"{file}, line {number} has no class ({text!r})"
            remedy = "write the class after each path, or put the images of each class into a folder with its name"
            raise UserError(Fault("data.root", rule, remedy, str(root)))
        lines.append((number, path.rstrip(), name))
    if not lines:
        raise UserError(Fault("data.root", f"{file} is empty", "write one path per line, or remove the file"))
    return lines


def _existing(file: Path, lines: list[Line], root: Path) -> list[str]:
    folder = str(root)
    found = [(number, path, existing_file(os.path.join(folder, path))) for number, path, _ in lines]  # noqa: PTH118
    missing = [(number, path) for number, path, existing in found if existing is None]
    if missing:
        number, path = missing[0]
        images = f"{counted(len(missing), 'image')} of {len(lines):,} missing"
        rule = f"{file}, line {number}: {root / path} does not exist ({images})"
        also = f" data.split_files={file.parent.resolve()}"
        raise UserError(Fault("data.root", rule, missing_remedy(str(root / path), root, also), folder))
    return [existing for _, _, existing in found if existing is not None]
