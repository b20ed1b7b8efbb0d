"""Folders of images and masks with the same names. Imports neither torch nor NumPy.

    root/train/images/*.jpg  root/train/masks/*.png  root/val/…  root/test/…
    root/images/train/*.jpg  root/masks/train/*.png  …
    root/images/*.jpg        root/masks/*.png

With `data.split_files`, train.txt, val.txt and test.txt name the images of each split in the last layout. Without val,
a share of train is held out; without test, there is no test split.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.data.listing.folders import IMAGE_SUFFIXES, VAL_NAMES
from convoy.data.listing.image_files import ImageFiles
from convoy.data.located.class_table import mask_classes
from convoy.data.targets import MASK, Targets, counted, listed

SPLITS = ("train", "val", "test")

Pair = tuple[Path, Path]
"""Folder of the images and folder of the masks of a split."""


def mask_folders(data: DataConfig) -> tuple[Targets, dict[str, ImageFiles], list[str]]:
    """List the images and masks of a folder; the targets of the files are the paths of the masks.

    Raises:
        UserError: if there is no such folder, an image has no mask, or a mask no image.
    """
    targets, pairs = Targets(MASK, mask_classes(data).names), find_pairs(data)
    if data.split_files is None:
        return targets, {split: _files(data, *pair) for split, pair in pairs.items()}, []
    lists = {split: _names(data, split) for split in data.splits or SPLITS}
    return targets, {split: _files(data, *pairs["train"], names) for split, names in lists.items() if names}, []


def find_pairs(data: DataConfig) -> dict[str, Pair]:
    """Return the folders of each split: train, and val and test if there are any.

    Raises:
        UserError: if there are no such folders.
    """
    images, masks = data.image_folder, data.mask_folder
    layout = f"{images}/ and {masks}/"
    if data.root is None:
        remedy = f"give the folder with train/{images}/ and train/{masks}/, or with {layout}"
        raise UserError(Fault("data.root", "is missing", remedy, "null"))
    root = Path(data.root).expanduser()
    if not root.is_dir():
        rule = "is not a folder" if root.exists() else "does not exist"
        raise UserError(Fault("data.root", rule, f"give the folder with {layout}", data.root))
    names = {"train": ("train",), "val": VAL_NAMES, "test": ("test",)}
    found: dict[str, Pair] = {}
    read = () if data.split_files else data.splits or SPLITS
    for split, choices in ((split, names[split]) for split in read):
        for name in choices:
            for pair in ((root / name / images, root / name / masks), (root / images / name, root / masks / name)):
                if pair[0].is_dir() and pair[1].is_dir():
                    found.setdefault(split, pair)
    if not found and (root / images).is_dir() and (root / masks).is_dir():
        found["train"] = root / images, root / masks
    if "train" not in found:
        below = sorted(child.name for child in root.iterdir() if child.is_dir())
        rule = f"has neither train/{images}/ and train/{masks}/ nor {layout}; it has {listed(below) or 'no folders'}"
        remedy = "data.image_folder and data.mask_folder name the two folders"
        raise UserError(Fault("data.root", rule, remedy, data.root))
    return found


def _names(data: DataConfig, split: str) -> list[str]:
    """Return the names in the list of a split; none without a list.

    Raises:
        UserError: if there is no list for training, or it can't be read.
    """
    file = Path(data.root or "").expanduser() / str(data.split_files) / f"{split}.txt"
    if split != "train" and not file.is_file():
        return []
    try:
        lines = file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        remedy = "give the folder of train.txt, val.txt and test.txt, relative to data.root"
        raise UserError(Fault("data.split_files", f"{file} can't be read ({error})", remedy)) from error
    return lines


def _files(data: DataConfig, images: Path, masks: Path, names: Sequence[str] | None = None) -> ImageFiles:
    """Return the images of a split with their masks.

    Args:
        data: the data config.
        images: folder of the images.
        masks: folder of the masks.
        names: names of the images, without suffix; None for all, sorted.
    """
    pictures = {name.removesuffix(data.image_suffix): path for name, path in _by_name(images).items()}
    found = _by_name(masks)
    if not pictures:
        raise UserError(Fault("data.root", f"{images} has no images", "add image files", str(data.root)))
    names = sorted(pictures) if names is None else names
    if absent := [name for name in names if name not in pictures]:
        rule = f"names {absent[0]}, and there is no {images / absent[0]}.*"
        remedy = "write names without endings" if Path(absent[0]).stem in pictures else "correct the list"
        raise UserError(Fault("data.split_files", rule, remedy, str(data.split_files)))
    if missing := [name for name in names if name + data.mask_suffix not in found]:
        wanted = missing[0] + data.mask_suffix
        near = did_you_mean(wanted, tuple(found), "a mask has the name of its image, with any suffix of an image")
        rule = f"{pictures[missing[0]]} has no mask {masks / wanted}.*"
        if len(missing) > 1:
            rule += f" ({counted(len(missing), 'image')} of {len(names):,} without one)"
        remedy = f"{near}; data.mask_suffix=_mask if masks are named <image>_mask.png"
        raise UserError(Fault("data.root", rule, remedy, str(data.root)))
    paths = tuple(str(pictures[name]) for name in names)
    return ImageFiles(paths, tuple(str(found[name + data.mask_suffix]) for name in names))


def _by_name(folder: Path) -> dict[str, Path]:
    """Return the images below a folder by their path without suffix, relative to the folder."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file():
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                rule = f"{found[name]} and {path} have the same name"
                raise UserError(Fault("data.root", rule, "remove one of them", str(folder)))
            found[name] = path
    return found
