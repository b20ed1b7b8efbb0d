"""Perceptual hashes: all pairs compared one by one, and copies of photographs."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from sklearn.datasets import load_digits

from convoy.data.inspection.perceptual_hash import LEAST_CORRELATION, MOST_BITS, details, hashes, near_pairs, thumbnail

Pixels = NDArray[np.uint8]


def thumbnails(images: list[Pixels]) -> NDArray[np.uint8]:
    return np.stack([thumbnail(image) for image in images])


def test_bits_are_the_signs_of_the_lowest_frequencies_relative_to_their_median() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32), dtype=np.uint8)
    for image, found in zip(images, hashes(images), strict=True):
        lowest = dctn(image.astype(float), norm=None)[:8, :8].ravel()
        expected = lowest > np.median(lowest[1:])
        expected[0] = False
        assert np.unpackbits(found[None].view(np.uint8)).astype(bool).tolist() == expected.tolist()


def test_pairs_are_those_of_a_comparison_of_all_pairs() -> None:
    digits = [(image * 255 / 16).astype(np.uint8)[:, :, None] for image in load_digits().images]
    small = thumbnails(digits)
    bits = np.unpackbits(hashes(small)[:, None].view(np.uint8), axis=1)
    means = small.reshape(-1, 16, 2, 16, 2).mean((2, 4))
    expected = set()
    for first in range(len(bits)):
        for second in np.flatnonzero((bits[first + 1 :] != bits[first]).sum(1) <= MOST_BITS) + first + 1:
            one, two = (image - _blurred(image) for image in (means[first], means[second]))
            if np.corrcoef(one.ravel(), two.ravel())[0, 1] >= LEAST_CORRELATION:
                expected.add((first, int(second)))
    found = near_pairs(hashes(small), details(small))
    assert len(expected) > 5
    assert {(first, second) for first, second in found.tolist()} == expected
    assert found.tolist() == sorted(found.tolist())


def _blurred(image: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(image, 1, mode="edge")
    return np.array([[padded[row : row + 3, column : column + 3].mean() for column in range(16)] for row in range(16)])


def test_images_of_one_color_are_not_similar() -> None:
    small = thumbnails([np.full((20, 30, 3), level, dtype=np.uint8) for level in (0, 10, 255)])
    assert near_pairs(hashes(small), details(small)).tolist() == []


@pytest.mark.parametrize("change", ["quality 30", "half", "larger", "gray"])
def test_copies_of_photographs_are_found_and_nothing_else(change: str, real_data: Callable[..., Path]) -> None:
    files = sorted(real_data("imagenet_samples").glob("*/*"))[:60]
    photographs = [Image.open(file).convert("RGB") for file in files]
    small = thumbnails(
        [np.array(image) for image in [*photographs, *(_changed(image, change) for image in photographs)]]
    )
    pairs = near_pairs(hashes(small), details(small)).tolist()
    assert pairs == [[index, index + len(files)] for index in range(len(files))]


def _changed(image: Image.Image, change: str) -> Image.Image:
    if change == "gray":
        return image.convert("L").convert("RGB")
    if change != "quality 30":
        factor = 0.5 if change == "half" else 1.4
        return image.resize((int(image.width * factor), int(image.height * factor)), Image.Resampling.LANCZOS)
    encoded = BytesIO()
    image.save(encoded, "JPEG", quality=30)
    return Image.open(encoded)
