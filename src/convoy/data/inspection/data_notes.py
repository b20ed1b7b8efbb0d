"""Notes on a data set that call for a decision of the user."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from convoy.config.data_schema import DataConfig
from convoy.data.inspection.duplicates import count_duplicates
from convoy.data.inspection.inspect_data import Inspection
from convoy.data.inspection.target_counts import COUNTED_KINDS, count_targets
from convoy.data.source_names import FILE_SOURCES
from convoy.data.split_notes import unequal_notes
from convoy.data.targets import CLASS_INDEX, IMAGE, MULTI_HOT, counted, listed

TOLERANCE = 0.05
"""Difference of a mean or a deviation in 0..1 from that of the config from which a note is printed."""


def notes_on(found: Inspection, data: DataConfig) -> Iterator[str]:
    """Yield a sentence for each fact that calls for a decision."""
    if any(len(facts.targets) < facts.num_images for facts in found.splits.values()):
        yield "targets are those of the decoded images: the data set has no attribute `targets` that lists all of them."
    yield from _target_notes(found)
    bad = sum(len(facts.bad) for facts in found.splits.values())
    if bad and not found.images:
        yield "no image can be decoded."
    elif bad:
        remedy = "" if data.on_bad_image == "skip" else "; data.on_bad_image=skip trains without them"
        yield f"{counted(bad, 'image')} can't be decoded{remedy}."
    yield from _duplicate_notes(found)
    if found.targets.kind != IMAGE:  # networks that return an image receive it with values in 0..1
        yield from _normalization_note(found, data)


def _target_notes(found: Inspection) -> Iterator[str]:
    targets, train = found.targets, found.splits["train"].targets
    if not len(train) or targets.kind not in COUNTED_KINDS:
        return
    counts = count_targets(targets, train)
    for number, text in ((0, "no training image"), (1, "one training image")):
        if few := [name for name, count in zip(targets.names, counts, strict=True) if count == number]:
            yield f"{text}: {listed(few)}."
    if targets.kind == CLASS_INDEX:
        yield from unequal_notes(targets, counts)
    elif targets.kind == MULTI_HOT and (empty := int((train.sum(1) == 0).sum())):
        yield f"{counted(empty, 'training image')} without a label."


def _duplicate_notes(found: Inspection) -> Iterator[str]:
    splits, targets = [split for split, _ in found.images], found.targets_seen()
    equal = count_duplicates(found.duplicates.equal, splits, targets)
    for (first, second), count in equal.across.items():
        if count:
            verb = "is" if count == 1 else "are"
            yield f"{counted(count, f'{second} image')} {verb} also in {first}, so results on {second} are too good."
    if equal.contradictory:
        yield f"{equal.contradictory:,} images have equal pixels and different targets."


def _normalization_note(found: Inspection, data: DataConfig) -> Iterator[str]:
    measured = found.mean_and_std
    if measured is None:
        return
    given = [np.broadcast_to(values, data.channels) for values in (data.mean, data.std)]
    difference = max(float(np.abs(one - np.array(two)).max()) for one, two in zip(given, measured, strict=True))
    if difference <= TOLERANCE or min(measured[1]) == 0:
        return
    mean, std = (f"[{','.join(f'{value:.3f}' for value in values)}]" for values in measured)
    remedy = f"a network trained from scratch can use data.mean={mean} data.std={std}"
    kept = "; pretrained weights need those they were trained with" if data.source in FILE_SOURCES else ""
    yield f"mean and deviation differ from data.mean and data.std by up to {difference:.2f}; {remedy}{kept}."
