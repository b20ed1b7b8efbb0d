"""Degradations against direct formulas, SciPy and Pillow."""

from __future__ import annotations

import math
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_images

from convoy.config.degradation_schema import DegradationConfig
from convoy.data.degradation.bicubic import enlarge_bicubic, resize_bicubic, shrink_bicubic
from convoy.data.degradation.degrade import blurred, compressed, degraded, luma, noisy

PHOTO: NDArray[np.uint8] = load_sample_images().images[0][100:196, 200:320].copy()


def imresize(values: list[float], length: int) -> list[float]:
    """MATLAB's `imresize` of one line, written as its documentation has it: positions counted from 1, loops."""
    scale = length / len(values)

    def cubic(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0

    found = []
    for number in range(1, length + 1):
        center = number / scale + 0.5 * (1 - 1 / scale)
        half = 2 / min(scale, 1)
        total = weights = 0.0
        for position in range(math.floor(center - half), math.ceil(center + half) + 1):
            weight = cubic(min(scale, 1) * (center - position))
            inside = position
            while not 1 <= inside <= len(values):
                inside = 1 - inside if inside < 1 else 2 * len(values) + 1 - inside
            total, weights = total + weight * values[inside - 1], weights + weight
        found.append(total / weights)
    return found


@pytest.mark.parametrize(("given", "length"), [(24, 8), (24, 12), (20, 5), (8, 24), (5, 20), (7, 3), (3, 1), (6, 6)])
def test_bicubic_is_matlabs_formula_on_each_axis(given: int, length: int) -> None:
    pixels = np.random.default_rng(given).integers(0, 256, (given, given, 2))
    rows = np.array([imresize(list(column), length) for column in pixels.transpose(2, 1, 0).reshape(-1, given)])
    expected = rows.reshape(2, given, length).transpose(2, 1, 0)
    np.testing.assert_allclose(resize_bicubic(pixels, length, given), expected, atol=1e-9)
    transposed = resize_bicubic(pixels.swapaxes(0, 1), given, length)
    np.testing.assert_allclose(transposed, expected.swapaxes(0, 1), atol=1e-9)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_is_pillows_within_a_level_away_from_the_border(factor: int) -> None:
    small = shrink_bicubic(PHOTO, factor)
    image = Image.fromarray(PHOTO).resize((small.shape[1], small.shape[0]), Image.Resampling.BICUBIC)
    difference = np.abs(small.astype(int) - np.asarray(image))
    assert difference[2:-2, 2:-2].max() <= 1
    assert difference.max() > 1  # Pillow omits the pixels beyond the border
    large = enlarge_bicubic(small, factor)
    assert large.shape == PHOTO.shape
    image = Image.fromarray(small).resize(PHOTO.shape[1::-1], Image.Resampling.BICUBIC)
    difference = np.abs(large.astype(int) - np.asarray(image))
    assert difference[2 * factor : -2 * factor, 2 * factor : -2 * factor].max() <= 1


def test_values_are_rounded_and_clipped() -> None:
    edge = np.repeat(np.array([0, 255], dtype=np.uint8), 4)[None, :, None].repeat(4, 0)
    values = resize_bicubic(edge, 8, 16)
    assert values.min() < 0
    assert values.max() > 255
    np.testing.assert_array_equal(enlarge_bicubic(edge, 2), np.clip(np.floor(values + 0.5), 0, 255))


@pytest.mark.parametrize("deviation", [0.7, 1.6, 4.0])
def test_a_blur_is_scipys(deviation: float) -> None:
    expected = gaussian_filter(
        PHOTO.astype(np.float64), (deviation, deviation, 0), mode="reflect", radius=[round(3 * deviation)] * 2 + [0]
    )
    np.testing.assert_array_equal(blurred(PHOTO, deviation), np.floor(expected + 0.5))


def test_noise_has_its_deviation_and_depends_on_the_seed_alone() -> None:
    gray = np.full((200, 200, 3), 128, dtype=np.uint8)
    noise = noisy(gray, 25.0, -7).astype(float) - 128
    # Standard errors of 120,000 values: 0.07 of the mean, 0.05 of the deviation.
    assert abs(noise.mean()) < 0.4
    assert noise.std() == pytest.approx(25, abs=0.3)
    np.testing.assert_array_equal(noisy(gray, 25.0, -7), noisy(gray, 25.0, -7))
    assert (noisy(gray, 25.0, -7) != noisy(gray, 25.0, 7)).mean() > 0.9


@pytest.mark.parametrize("channels", [1, 3])
def test_a_compression_is_pillows_jpeg(channels: int) -> None:
    pixels = np.ascontiguousarray(PHOTO[:, :, :channels])
    buffer = BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, "JPEG", quality=10)
    np.testing.assert_array_equal(compressed(pixels, 10).squeeze(), np.asarray(Image.open(buffer)))
    errors = [np.abs(compressed(pixels, quality).astype(int) - pixels).mean() for quality in (10, 50, 90)]
    assert errors == sorted(errors, reverse=True)


def test_gray_is_pillows() -> None:
    np.testing.assert_array_equal(luma(PHOTO)[..., 0], np.asarray(Image.fromarray(PHOTO).convert("L")))


def test_degradations_follow_each_other() -> None:
    steps = DegradationConfig(blur=1.2, scale=3, gray=True, noise=10.0, jpeg=40)
    expected = compressed(noisy(luma(shrink_bicubic(blurred(PHOTO, 1.2), 3)), 10.0, 5), 40)
    np.testing.assert_array_equal(degraded(PHOTO, steps, 5), expected)
    assert steps.output_scale == 3
    enlarging = DegradationConfig(scale=3, enlarge=True)
    np.testing.assert_array_equal(degraded(PHOTO, enlarging, 0), enlarge_bicubic(shrink_bicubic(PHOTO, 3), 3))
    assert enlarging.output_scale == 1
    np.testing.assert_array_equal(degraded(PHOTO, DegradationConfig(), 0), PHOTO)
