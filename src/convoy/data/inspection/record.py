"""Result of a look at a data set in plain containers, for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from convoy.config.data_schema import DataConfig
from convoy.data.inspection.duplicates import Group
from convoy.data.inspection.inspect_data import Inspection, SplitFacts
from convoy.data.inspection.target_counts import count_targets, value_ranges
from convoy.data.targets import IMAGE, VALUES


def as_data(found: Inspection, data: DataConfig, notes: Sequence[str]) -> dict[str, Any]:
    """Return the facts about a data set for JSON.

    Args:
        found: the facts.
        data: the data config.
        notes: notes of the data set.
    """
    measured = found.mean_and_std
    return {
        "data": data.name,
        "kind": found.targets.kind,
        "names": list(found.targets.names),
        "splits": {name: _split(found, facts) for name, facts in found.splits.items()},
        "sizes": [{"width": size[0], "height": size[1], "images": n} for size, n in found.sizes.most_common()],
        "modes": dict(found.modes.most_common()),
        "mean": None if measured is None else measured[0],
        "std": None if measured is None else measured[1],
        "configured_mean": list(data.mean),
        "configured_std": list(data.std),
        "duplicates": {
            "equal": [_images(found, group) for group in found.duplicates.equal],
            "near": [_images(found, pair) for pair in found.duplicates.near],
        },
        "notes": list(notes),
    }


def _split(found: Inspection, facts: SplitFacts) -> dict[str, Any]:
    record = {"images": facts.num_images, "read": facts.num_read, "unreadable": facts.bad}
    names = found.targets.names
    if found.targets.kind == IMAGE:
        return record
    if found.targets.kind != VALUES:
        counts = count_targets(found.targets, facts.targets) if len(facts.targets) else [0] * len(names)
        return {**record, "counts": dict(zip(names, counts, strict=True))}
    ranges = value_ranges(facts.targets) if len(facts.targets) else []
    return {**record, "values": {name: asdict(one) for name, one in zip(names, ranges, strict=False)}}


def _images(found: Inspection, group: Group) -> list[dict[str, Any]]:
    return [{"split": found.images[image][0], "name": found.name(image)} for image in group]
