"""Val and test that are held out of the training images: shares, folds, and groups that stay together.

Shares without groups are those of `splits.stratified_split`. Folds and groups are divided by scikit-learn, with a
constant seed, so that every run has the same ones.
"""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from convoy.config.faults import Fault, UserError
from convoy.data.listing.image_files import ImageFiles
from convoy.data.sampling.splits import SPLIT_SEED, stratified_split
from convoy.data.targets import CLASS_INDEX, Targets, counted, listed

MOST_PARTS = 20
"""Largest number of parts of equal size into which groups are divided, to hold out a share of them."""

Two = tuple[ImageFiles, ImageFiles]


def hold_out(files: ImageFiles, kind: str, fraction: float, key: str) -> Two:
    """Return the images that are kept and those that are held out: stratified by class if each image has one.

    Args:
        files: images of a split.
        kind: kind of their targets.
        fraction: share to hold out. With groups, the nearest share of at most `MOST_PARTS` equal parts.
        key: setting of the fraction, for errors.

    Raises:
        UserError: if one side would be empty.
    """
    if files.groups is None:
        kept, held_out = stratified_split(torch.from_numpy(_strata(files, kind)), fraction, key)
        return files.at(kept.tolist()), files.at(held_out.tolist())
    most = min(MOST_PARTS, len(set(files.groups)))
    if most < 2:
        rule = f"can't hold out a share of {counted(len(set(files.groups)), 'group')}"
        raise UserError(Fault(key, rule, "name a column with more values in data.group_column", str(fraction)))
    share = Fraction(fraction).limit_denominator(most)
    share = min(max(share, Fraction(1, most)), Fraction(most - 1, most))
    parts = _parts(files, kind, share.denominator)
    return _divided(files, parts < share.numerator)


def fold_of(files: ImageFiles, kind: str, folds: int, fold: int) -> Two:
    """Return the images outside and inside of a fold: stratified by class if each image has one.

    Raises:
        UserError: if there are more folds than images, groups, or images of a class.
    """
    number, noun = len(files), "training image"
    if kind == CLASS_INDEX:
        number, noun = int(np.bincount(_strata(files, kind)).max()), "images of the largest class"
    if files.groups is not None and len(set(files.groups)) < number:
        number, noun = len(set(files.groups)), "group"
    if folds > number:
        rule = f"is more than the {counted(number, noun, noun if noun.startswith('images') else None)}"
        raise UserError(Fault("data.folds", rule, f"write at most {number}", str(folds)))
    return _divided(files, _parts(files, kind, folds) == fold)


def check_training_classes(before: ImageFiles, files: ImageFiles, targets: Targets, key: str) -> None:
    """Check that the training images have every class that they had before val and test were held out.

    Args:
        before: training images before.
        files: training images that were kept.
        targets: targets of the data set.
        key: setting that determined the split, for the error.

    Raises:
        UserError: if a class is missing.
    """
    if targets.kind != CLASS_INDEX:
        return
    lacking = sorted(set(before.targets) - set(files.targets))
    if lacking:
        rule = f"leaves train without images of {listed([targets.names[label] for label in lacking])}"
        remedy = "add images or groups of this class, or assign images to splits with data.split_column"
        raise UserError(Fault(key, rule, remedy))


def _strata(files: ImageFiles, kind: str) -> NDArray[np.int64]:
    return np.array(files.targets if kind == CLASS_INDEX else [0] * len(files), dtype=np.int64)


def _divided(files: ImageFiles, is_held_out: NDArray[np.bool_]) -> Two:
    return files.at(np.flatnonzero(~is_held_out).tolist()), files.at(np.flatnonzero(is_held_out).tolist())


def _parts(files: ImageFiles, kind: str, number: int) -> NDArray[np.int64]:
    """Return the part of each image, 0 to number - 1. Only classes with an image for each part are stratified."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    strata = _strata(files, kind)
    if np.bincount(strata).max() < number:  # refused by the splitters
        strata = np.zeros_like(strata)
    splitter = (StratifiedKFold if files.groups is None else StratifiedGroupKFold)(
        number, shuffle=True, random_state=SPLIT_SEED
    )
    parts = np.empty(len(files), dtype=np.int64)
    with warnings.catch_warnings():
        # A class with fewer images than parts: val may lack it, which a note reports.
        warnings.simplefilter("ignore", UserWarning)
        for part, (_, places) in enumerate(splitter.split(np.zeros(len(files)), strata, files.groups)):
            parts[places] = part
    return parts
