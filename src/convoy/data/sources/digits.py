"""Handwritten digits of scikit-learn: real images, without a download."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from convoy.config.data_schema import DataConfig
from convoy.data.sampling.splits import stratified_split
from convoy.data.sources.image_set import ImageSet, LabelledImages

SIDE = 8
_LARGEST_VALUE = 16
_TEST_FRACTION = 0.2


def read_digits(data: DataConfig) -> ImageSet:  # noqa: ARG001 (the signature that sources share)
    """Read 1,797 images [1, 8, 8] with values 0 .. 255, with a fixed test split of 359 images.

    The file is read from scikit-learn's package without importing it, which would take a second.
    """
    with gzip.open(_table_path(), "rt") as file:
        table = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.int64))
    pixels, labels = table[:, :-1], table[:, -1]
    images = (pixels.to(torch.float32) * (255 / _LARGEST_VALUE)).round().to(torch.uint8).view(-1, 1, SIDE, SIDE)
    digits = LabelledImages(images, labels.contiguous())
    train, test = stratified_split(digits.labels, _TEST_FRACTION)
    return ImageSet(tuple(str(digit) for digit in range(10)), digits.at(train), digits.at(test))


def _table_path() -> Path:
    spec = find_spec("sklearn")
    assert spec is not None, "scikit-learn is one of Convoy's dependencies"
    assert spec.origin is not None
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
