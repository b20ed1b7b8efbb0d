"""CIFAR-10 and CIFAR-100: pickles of Python 2 (https://www.cs.toronto.edu/~kriz/cifar.html, "Python version")."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convoy.config.data_schema import DataConfig
from convoy.data.sources.file_locations import FileLocations, broken_file, locate
from convoy.data.sources.image_set import ImageSet, LabelledImages

SIDE = 32


@dataclass(frozen=True)
class _Layout:
    """Files of a data set and the keys in them."""

    locations: FileLocations
    train: tuple[str, ...]
    test: str
    names: str
    label_key: str
    names_key: str
    num_classes: int


def _locations(title: str, folder: str, torchvision_class: str, files: tuple[str, ...]) -> FileLocations:
    return FileLocations(title, files, (".", folder), torchvision_class)


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_CIFAR10 = _Layout(
    _locations("CIFAR-10", "cifar-10-batches-py", "CIFAR10", (*_BATCHES, "test_batch", "batches.meta")),
    _BATCHES,
    "test_batch",
    "batches.meta",
    "labels",
    "label_names",
    10,
)
_CIFAR100 = _Layout(
    _locations("CIFAR-100", "cifar-100-python", "CIFAR100", ("train", "test", "meta")),
    ("train",),
    "test",
    "meta",
    "fine_labels",
    "fine_label_names",
    100,
)


def read_cifar10(data: DataConfig) -> ImageSet:
    """Read 50,000 training and 10,000 test images in 10 classes, [3, 32, 32]."""
    return _read(_CIFAR10, data)


def read_cifar100(data: DataConfig) -> ImageSet:
    """Read 50,000 training and 10,000 test images in 100 classes (the fine labels), [3, 32, 32]."""
    return _read(_CIFAR100, data)


def _read(layout: _Layout, data: DataConfig) -> ImageSet:
    paths = locate(layout.locations, data)
    names = _load(paths[layout.names]).get(layout.names_key)
    if not isinstance(names, list) or len(names) != layout.num_classes:
        raise broken_file(paths[layout.names], f"has no list {layout.names_key} of {layout.num_classes} names")
    train = _read_split([paths[file] for file in layout.train], layout)
    return ImageSet(tuple(names), train, _read_split([paths[layout.test]], layout))


def _read_split(paths: Sequence[Path], layout: _Layout) -> LabelledImages:
    pixels, labels = [], []
    for path in paths:
        batch = _load(path)
        rows, numbers = batch.get("data"), batch.get(layout.label_key)
        if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape[1:] != (3 * SIDE * SIDE,):
            raise broken_file(path, f"has no uint8 array data of n x {3 * SIDE * SIDE}")
        if not isinstance(numbers, list) or len(numbers) != len(rows):
            raise broken_file(path, f"has no list {layout.label_key} with a label for each of {len(rows):,} images")
        if not all(isinstance(number, int) and 0 <= number < layout.num_classes for number in numbers):
            raise broken_file(path, f"has labels outside 0 to {layout.num_classes - 1}")
        pixels.append(torch.from_numpy(rows))
        labels.extend(numbers)
    return LabelledImages(torch.cat(pixels).view(-1, 3, SIDE, SIDE), torch.tensor(labels))


def _load(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="latin1").load()
    # A damaged pickle can raise arbitrary exceptions.
    except Exception as error:
        raise broken_file(path, f"can't be read ({error or type(error).__name__})") from error
    if not isinstance(content, dict):
        raise broken_file(path, "contains no dictionary")
    return content


class _Unpickler(pickle.Unpickler):
    """Unpickler restricted to NumPy arrays, since other pickles can execute code."""

    _ALLOWED = frozenset(
        {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"names {module}.{name}, which is not a part of an array")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
