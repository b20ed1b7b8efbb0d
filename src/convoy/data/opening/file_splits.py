"""Splits of the sources whose images are listed before training: folders, tables and data sets of Hugging Face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from convoy.config.data_schema import DataConfig
from convoy.data.degradation.restoration_folders import restoration_folders
from convoy.data.listing.folders import find_layout, list_images, read_classes
from convoy.data.listing.image_files import ImageFiles
from convoy.data.listing.split_lists import find_lists, list_files
from convoy.data.located.coco_annotations import coco_keypoints
from convoy.data.located.mask_folders import mask_folders
from convoy.data.opening.held_out import check_training_classes, fold_of, hold_out
from convoy.data.opening.opened_data import SPLITS
from convoy.data.source_names import (
    COCO_KEYPOINTS_SOURCE,
    FOLDER_SOURCE,
    HUGGINGFACE_SOURCE,
    RESTORATION_SOURCE,
    SEGMENTATION_SOURCE,
    TABLE_SOURCE,
)
from convoy.data.split_notes import absent_notes, held_out_note, no_test_note, place_of
from convoy.data.tables.listed_images import table_images
from convoy.data.targets import CLASS_INDEX, Targets

Listed = tuple[Targets, dict[str, ImageFiles], list[str]]
"""Targets of a source, its images by split, and notes."""


@dataclass(frozen=True)
class FileSplits:
    """Images of a source by split: train, val, and test if there is one.

    Attributes:
        targets: kind and names of the targets.
        splits: images by the split's name.
        notes: facts that a user may not expect, one sentence each.
    """

    targets: Targets
    splits: dict[str, ImageFiles]
    notes: tuple[str, ...]


def file_splits(data: DataConfig) -> FileSplits:
    """List the images of a source; val and test are held out of train if configured.

    Raises:
        UserError: if the source can't be used.
    """
    targets, splits, notes = _READERS[data.source](data)
    kind, all_of_train = targets.kind, splits["train"]
    if "test" not in splits and data.test_fraction:
        key = "data.test_fraction"
        splits["train"], splits["test"] = hold_out(splits["train"], kind, data.test_fraction, key)
        notes.append(held_out_note(data, "test", len(splits["test"])))
    if data.folds is not None and data.fold is not None:
        splits["train"], splits["val"] = fold_of(splits["train"], kind, data.folds, data.fold)
        notes.append(f"fold {data.fold} of {data.folds} of {place_of(data)} is val: {len(splits['val']):,} images.")
    elif "val" not in splits:
        splits["train"], splits["val"] = hold_out(splits["train"], kind, data.val_fraction, "data.val_fraction")
        notes.append(held_out_note(data, "val", len(splits["val"])))
    key = "data.folds" if data.folds else "data.val_fraction"
    check_training_classes(all_of_train, splits["train"], targets, key)
    if "test" not in splits:
        notes.append(no_test_note(data))
    notes += absent_notes(data, targets, {name: split.targets for name, split in splits.items()})
    return FileSplits(targets, {name: splits[name] for name in SPLITS if name in splits}, tuple(notes))


def _huggingface_images(data: DataConfig) -> Listed:
    # Imported here, since it needs an optional package.
    from convoy.data.huggingface.dataset_rows import huggingface_images

    return huggingface_images(data)


def _folder_images(data: DataConfig) -> Listed:
    assert data.root is not None, "check_data requires it"
    if (lists := find_lists(data)) is not None:
        classes, splits = list_files(lists)
        return Targets(CLASS_INDEX, classes), splits, [f"the images are those of {lists.shown()}."]
    layout = find_layout(data.root)
    classes = read_classes(layout)
    notes = list(layout.notes)
    splits = {"train": list_images(layout.train, classes)}
    for split, folder in (("val", layout.val), ("test", layout.test)):
        if folder is None:
            continue
        splits[split] = list_images(folder, classes, complete=False)
    notes += [note for files in splits.values() for note in files.notes]
    return Targets(CLASS_INDEX, classes), splits, notes


_READERS: dict[str, Callable[[DataConfig], Listed]] = {
    FOLDER_SOURCE: _folder_images,
    TABLE_SOURCE: table_images,
    HUGGINGFACE_SOURCE: _huggingface_images,
    SEGMENTATION_SOURCE: mask_folders,
    RESTORATION_SOURCE: restoration_folders,
    COCO_KEYPOINTS_SOURCE: coco_keypoints,
}
