"""Parts of the checks that sources share. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError, fault_of
from convoy.data.source_names import WHOLE_VIEW
from convoy.data.targets import plural_of

MOST_SCALE = 16


class SourceCheck(Protocol):
    """Module that checks the settings of one source."""

    def faults(self, data: DataConfig, *, present: bool) -> Iterator[Fault]:
        """Yield the faults of the settings of the source.

        Args:
            data: the data config.
            present: whether the data must exist; if not, only the number of classes must be known.
        """
        ...

    def count_targets(self, data: DataConfig) -> int:
        """Return the number of classes, labels or values, used if data.num_classes is null.

        Raises:
            UserError: if they can't be counted.
        """
        ...


def padding_faults(data: DataConfig) -> Iterator[Fault]:
    """Yield a fault if images of different sizes should be padded."""
    if data.fit == "pad":
        yield fault_of("data.fit", data.fit, "is for sets whose images have one size", "use data.fit=resize")


def mask_value_faults(data: DataConfig) -> Iterator[Fault]:
    """Yield a fault if data.ignored_values can't be in a mask."""
    if not all(0 <= value <= 255 for value in data.ignored_values):
        yield fault_of("data.ignored_values", data.ignored_values, "must be values of masks, 0 to 255")


def restored_view_faults(data: DataConfig) -> Iterator[Fault]:
    """Yield a fault if val and test do not show images in their own size."""
    if data.eval_view != WHOLE_VIEW:
        rule = "would resize the images that the network should return"
        yield fault_of("data.eval_view", data.eval_view, rule, "write data.eval_view=whole")


def scale_faults(data: DataConfig) -> Iterator[Fault]:
    """Yield a fault if data.degradation.scale is out of range."""
    if not 1 <= data.degradation.scale <= MOST_SCALE:
        yield fault_of("data.degradation.scale", data.degradation.scale, f"must be 1 to {MOST_SCALE}")


def counted_faults(data: DataConfig, count: Callable[[DataConfig], int], place: str | None) -> Iterator[Fault]:
    """Yield the faults that prevent counting the targets, or a fault if data.num_classes is another number.

    Args:
        data: the data config.
        count: `count_targets` of the source.
        place: description of the data, such as its folder.
    """
    try:
        number = count(data)
    except UserError as error:
        yield from error.faults
        return
    if data.num_classes not in (None, number):
        rule = f"{place} has {number} {plural_of(data.target)}"
        yield fault_of("data.num_classes", data.num_classes, rule, "write data.num_classes=null to count them")


def uncounted_faults(data: DataConfig, key: str, kind: str) -> Iterator[Fault]:
    """Yield a fault if the number of classes is not known while the data is elsewhere.

    Args:
        data: the data config.
        key: setting that names the data, `root` or `file`.
        kind: the noun for it, "folder" or "file".
    """
    if data.num_classes is None:
        path = getattr(data, key)
        place = f"without data.{key}" if path is None else f"without the {kind} {path}"
        yield Fault("data.num_classes", f"can't be counted {place}", "write data.num_classes=…", "null")


def file_faults(data: DataConfig, count: Callable[[DataConfig], int], *, present: bool) -> Iterator[Fault]:
    """Yield the faults of a source that is one file, `data.file`, and of the number of its targets.

    Args:
        data: the data config.
        count: `count_targets` of the source.
        present: whether the file must exist.
    """
    yield from padding_faults(data)
    if not present and not is_file(data.file):
        yield from uncounted_faults(data, "file", "file")
    else:
        yield from counted_faults(data, count, data.file)


def is_folder(root: str | None) -> bool:
    """Return whether `root` is an existing folder."""
    return root is not None and Path(root).expanduser().is_dir()


def is_file(path: str | None) -> bool:
    """Return whether `path` is an existing file."""
    return path is not None and Path(path).expanduser().is_file()
