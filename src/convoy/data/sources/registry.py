"""Readers of data sets in memory by the name in data.source."""

from __future__ import annotations

from importlib import import_module

from convoy.config.data_schema import DataConfig
from convoy.data.sources.image_set import ImageSet

READERS = {
    "digits": ("digits", "read_digits"),
    "fashion_mnist": ("mnist", "read_fashion_mnist"),
    "mnist": ("mnist", "read_mnist"),
    "cifar10": ("cifar", "read_cifar10"),
    "cifar100": ("cifar", "read_cifar100"),
}
"""Module and function for each source."""


def read_set(data: DataConfig) -> ImageSet:
    """Read the set of `data.source`; the modules of other sets are not imported."""
    module, function = READERS[data.source]
    images: ImageSet = getattr(import_module(f"convoy.data.sources.{module}"), function)(data)
    return images
