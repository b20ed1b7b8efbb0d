"""Readers of data sets in memory by the name in data.source."""

from __future__ import annotations

from collections.abc import Callable

from convoy.config.data_schema import DataConfig
from convoy.data.sources.cifar import read_cifar10, read_cifar100
from convoy.data.sources.digits import read_digits
from convoy.data.sources.image_set import ImageSet
from convoy.data.sources.mnist import read_fashion_mnist, read_mnist

READERS: dict[str, Callable[[DataConfig], ImageSet]] = {
    "digits": read_digits,
    "fashion_mnist": read_fashion_mnist,
    "mnist": read_mnist,
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
}
