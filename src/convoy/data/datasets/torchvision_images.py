"""Sets of torchvision as map-style data sets, downloaded if necessary."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError, did_you_mean, one_line
from convoy.config.trust import TRUST
from convoy.data.datasets.torchvision_sets import set_facts
from convoy.data.sources.file_locations import cache_folder, download_lock

_SET_BY_CONVOY = ("root", "transform", "target_transform", "download", "loader", "train")

_CREATED = {"Caltech101": "caltech101", "Caltech256": "caltech256"}
"""Folders below the root that torchvision creates without a download."""


class TorchvisionSet:
    """Set of torchvision with the attributes that `DatasetImages` reads.

    Attributes:
        classes: names of the classes; None if the set has no names.
        targets: class of each image; None if the set has no list of them.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.classes = _names(getattr(dataset, "classes", None) or getattr(dataset, "categories", None))
        self.targets = _labels(dataset)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        return self._dataset[index]


def torchvision_set(data: DataConfig, split: str) -> TorchvisionSet | None:
    """Build a split of the set named by `data.name`, or None if the set does not have the split.

    Raises:
        UserError: if an argument is unknown, files are missing and can't be downloaded, or a package is missing.
    """
    from torchvision import datasets

    chosen = set_facts(data).arguments(split)
    if chosen is None:
        return None
    kind = getattr(datasets, data.name)
    _check_arguments(data, kind, chosen)
    root = Path(data.root).expanduser() if data.root is not None else cache_folder()
    arguments = {**chosen, **(data.arguments or {})}
    can_download = "download" in _parameters(kind)
    may_write = data.root is None or TRUST.wrote(data.root)
    if not may_write and not (root / _CREATED.get(data.name, "")).is_dir():
        raise _untrusted(data)
    try:
        built = _built(data, kind, root, arguments, {"download": False} if can_download else {})
    except _NOT_THERE as error:
        if not (data.download and can_download):
            raise _absent(data, root, error, can_download) from error
        if not may_write:
            raise _untrusted(data) from error
        with download_lock(root, data.name):
            try:
                built = _built(data, kind, root, arguments, {"download": True})
            except _NOT_THERE as second:
                raise _absent(data, root, second, can_download=False) from second
    found = TorchvisionSet(built)
    number = data.num_classes
    if found.classes is not None and number is not None and len(found.classes) != number:
        rule = f"{split} of {data.name} in {root} has {len(found.classes)} classes instead of {number}"
        raise UserError(Fault("data.root", rule, "replace it with a complete copy", str(root)))
    return found


_NOT_THERE = (OSError, RuntimeError, EOFError)
"""Errors of torchvision for missing files, a failed download and a wrong checksum."""


def _built(data: DataConfig, kind: Any, root: Path, arguments: dict[str, Any], download: dict[str, bool]) -> Any:
    try:
        return kind(str(root), **arguments, **download)
    except (ImportError, ModuleNotFoundError) as error:
        raise UserError(Fault("data.name", f"needs a package ({error})", "install it", data.name)) from error
    except (ValueError, TypeError) as error:
        shown = ", ".join(f"{name}: {value}" for name, value in (data.arguments or {}).items())
        rule = f"torchvision refuses the arguments ({one_line(error)})"
        raise UserError(Fault("data.arguments", rule, "correct them", f"{{{shown}}}")) from error


def _untrusted(data: DataConfig) -> UserError:
    rule = f"comes from a saved file, and has no complete {data.name}, which is not downloaded to such a folder"
    remedy = f"to trust it, write it on the command line; data.root=null downloads to {cache_folder()}"
    return UserError(Fault("data.root", rule, remedy, data.root))


def _absent(data: DataConfig, root: Path, error: Exception, can_download: bool) -> UserError:
    if "pip install" in str(error):
        return UserError(Fault("data.name", one_line(error), "install the package", data.name))
    remedy = f"put the files of {data.name} there as torchvision expects them"
    if can_download:
        remedy = "data.download=true downloads it"
    return UserError(Fault("data.root", f"{data.name} is not in {root} ({one_line(error)})", remedy, str(root)))


def _check_arguments(data: DataConfig, kind: Any, chosen: dict[str, Any]) -> None:
    names = [name for name in _parameters(kind) if name not in (*_SET_BY_CONVOY, *chosen)]
    for name, value in (data.arguments or {}).items():
        if name not in names:
            otherwise = f"it has {', '.join(names)}" if names else "remove it"
            rule = f"{data.name} has no argument {name} that can be set"
            remedy = did_you_mean(name, names, otherwise)
            raise UserError(Fault("data.arguments", rule, remedy, f"{{{name}: {value}}}"))


def _parameters(kind: Any) -> list[str]:
    """Return the arguments of a set and of its base classes, up to the first one that takes no further keywords."""
    names: dict[str, None] = {}
    for base in kind.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters
        names |= dict.fromkeys(name for name in parameters if name not in ("self", "args", "kwargs"))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return list(names)


def _names(classes: Any) -> list[str] | None:
    if not isinstance(classes, Sequence) or isinstance(classes, str):
        return None
    return [name if isinstance(name, str) else str(name[0]) for name in classes]


def _labels(dataset: Any) -> list[int] | None:
    """Return the class of each image from the attribute that holds them, whose name differs between sets."""
    for name in ("targets", "labels", "_labels", "y"):
        values = getattr(dataset, name, None)
        if values is not None and len(values) == len(dataset):
            return [int(value) for value in (values.tolist() if isinstance(values, Tensor) else values)]
    for name in ("samples", "_samples"):
        pairs = getattr(dataset, name, None)
        if pairs is not None and len(pairs) == len(dataset) and all(isinstance(pair[1], int) for pair in pairs):
            return [pair[1] for pair in pairs]
    return None
