"""Images and targets of a data set of Hugging Face by split. The encoded images are read while training runs."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.data.huggingface.dataset_columns import class_names, image_column, targets_columns
from convoy.data.huggingface.loading import load_splits, read_features
from convoy.data.huggingface.split_rows import SplitRows
from convoy.data.listing.image_files import ImageBlocks, ImageFiles
from convoy.data.targets import CLASS_INDEX, MULTI_HOT, VALUES, Targets, listed

LARGE_BLOCK_BYTES = 512 << 20
"""Memory of a row group from which a note is printed; `datasets` writes row groups of 100 MB or less."""

UNLABELLED = -1
"""Class of images without a label, as in test splits whose labels are secret."""


def read_targets(data: DataConfig) -> Targets:
    """Return kind and names of the targets; the data is read only if the features have no class names.

    Raises:
        UserError: if the set can't be opened, or has no such columns.
    """
    features = read_features(data)
    columns = targets_columns(data, features)
    image_column(data, features)
    if (declared := _declared(data, features, columns)) is not None:
        return declared
    loaded, _ = load_splits(data)
    return _found(data, [values[0] for values in _values(data, loaded, columns).values()])


def huggingface_images(data: DataConfig) -> tuple[Targets, dict[str, ImageFiles], list[str]]:
    """Return the targets of a data set, its images by split, and notes.

    Raises:
        UserError: if the set can't be opened, has no such columns, or a target is invalid.
    """
    loaded, notes = load_splits(data)
    features = loaded["train"].features
    image, columns = image_column(data, features), targets_columns(data, features)
    values = _values(data, loaded, columns)
    notes += [f"the {split} split of {data.root} has no labels and is not used." for split in set(loaded) - set(values)]
    targets = _declared(data, features, columns) or _found(data, [column[0] for column in values.values()])
    splits = {}
    for split, by_column in values.items():
        found = loaded[split]
        blocks = found.blocks(image)
        rows = _rows(data, split, by_column, targets, features[columns[0]])
        if blocks is not None:
            notes += _block_notes(data, split, blocks, rows)
        groups = None if data.group_column is None else _groups(data, found)
        splits[split] = ImageFiles(
            tuple(f"{data.root} ({split}), row {row}" for row in range(len(found))),
            rows,
            groups=groups,
            contents=found.contents(image),
            rows=tuple(range(len(found))),
            blocks=blocks,
        )
    return targets, splits, notes


def _block_notes(data: DataConfig, split: str, blocks: ImageBlocks, targets: Sequence[Any]) -> Iterator[str]:
    if split == "train" and is_sorted(targets):
        yield (
            f"the images of {data.root} are sorted by class, and streaming shuffles them by row group and within"
            f" data.shuffle_buffer={data.shuffle_buffer} only: shuffle the files once, or write data.streaming=false."
        )
    if blocks.largest_bytes > LARGE_BLOCK_BYTES:
        size = f"{blocks.largest_bytes / 2**30:.1f} GiB"
        yield (
            f"a row group of {split} of {data.root} takes {size}, and several are in memory at a time: write the files"
            " with smaller ones, such as row_group_size=1000 of pyarrow."
        )


def is_sorted(targets: Sequence[Any]) -> bool:
    """Return whether images of equal targets follow each other, much more often than in a random order."""
    if len(targets) < 2:
        return False
    repeated = sum(map(operator.eq, targets, targets[1:])) / (len(targets) - 1)
    expected = sum((count / len(targets)) ** 2 for count in Counter(targets).values())
    return expected < 1 and repeated > (1 + expected) / 2


def _values(data: DataConfig, loaded: Mapping[str, SplitRows], columns: Sequence[str]) -> dict[str, list[list[Any]]]:
    """Return the columns of the target by split, without splits of val or test that have no labels."""
    values = {split: [found.column(column) for column in columns] for split, found in loaded.items()}

    def is_labelled(split: str) -> bool:
        if split == "train" or data.target != CLASS_INDEX:
            return True
        return not all(value in (UNLABELLED, None) for value in values[split][0])

    return {split: by_column for split, by_column in values.items() if is_labelled(split)}


def _declared(data: DataConfig, features: Mapping[str, Any], columns: Sequence[str]) -> Targets | None:
    """Return the targets that the features declare, or None if the classes are the values of the column."""
    if data.target == VALUES:
        return Targets(VALUES, tuple(columns))
    names = class_names(features[columns[0]], data.target)
    return None if names is None else Targets(data.target, tuple(names))


def _found(data: DataConfig, columns: Sequence[Sequence[Any]]) -> Targets:
    """Return the targets with the distinct values as names, in their order."""
    values = {value for column in columns for value in column if not isinstance(value, list)}
    values |= {label for column in columns for labels in column if isinstance(labels, list) for label in labels}
    values -= {None, ""}
    if any(isinstance(value, float) for value in values):
        rule = "has numbers with fractions instead of classes"
        raise UserError(Fault("data.target_column", rule, "write task=regression", _shown(data)))
    order = sorted(values, key=lambda value: (isinstance(value, str), value))
    return Targets(data.target, tuple(map(str, order)))


def _rows(
    data: DataConfig, split: str, by_column: Sequence[Sequence[Any]], targets: Targets, feature: Any
) -> tuple[Any, ...]:
    """Return the target of each row; a ClassLabel is an index already.

    Raises:
        UserError: if a value is invalid, with the number of the first such row.
    """
    index = {name: place for place, name in enumerate(targets.names)}
    is_index = class_names(feature, data.target) is not None
    rows: list[Any] = []
    for row, values in enumerate(zip(*by_column, strict=True)):
        try:
            rows.append(_target(data.target, values, index, is_index))
        except (KeyError, TypeError, ValueError):
            wanted = {CLASS_INDEX: "a class", MULTI_HOT: "a list of labels", VALUES: "finite numbers"}[data.target]
            rule = f"row {row} of {split} is {values[0] if len(values) == 1 else list(values)} instead of {wanted}"
            remedy = "correct or remove the row, or name another column in data.target_column"
            raise UserError(Fault("data.target_column", rule, remedy, _shown(data))) from None
    return tuple(rows)


def _target(kind: str, values: Sequence[Any], index: Mapping[str, int], is_index: bool) -> Any:
    if kind == VALUES:
        numbers = tuple(float(value) for value in values)
        if not all(map(math.isfinite, numbers)):
            raise ValueError("not finite")
        return numbers

    def place_of(label: Any) -> int:
        place = label if is_index else index[str(label)]
        if not 0 <= place < len(index):
            raise ValueError("not a class")
        return int(place)

    if kind == CLASS_INDEX:
        return place_of(values[0])
    present = {place_of(label) for label in values[0] or ()}
    return tuple(float(place in present) for place in range(len(index)))


def _groups(data: DataConfig, found: SplitRows) -> tuple[str, ...]:
    if data.group_column is None or data.group_column not in found.features:
        rule = f"{data.root} has no such column"
        remedy = f"the columns are {listed(list(found.features), 20)}"
        raise UserError(Fault("data.group_column", rule, remedy, data.group_column))
    return tuple(map(str, found.column(data.group_column)))


def _shown(data: DataConfig) -> str:
    column = data.target_column
    return "null" if column is None else column if isinstance(column, str) else f"[{','.join(map(str, column))}]"
