"""Tests of random crops against torchvision's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from convoy.config.augment_schema import AugmentConfig
from convoy.data.images.crop_geometry import NUM_CROP_NUMBERS, RandomCrop, random_box
from convoy.data.sampling.randomness import Stream, as_uniform, random_bits


def boxes(width: int, height: int, scale: list[float], count: int, shape: float = 1.0) -> np.ndarray:
    streams = range(Stream.RESIZED_CROP, Stream.RESIZED_CROP + NUM_CROP_NUMBERS)
    numbers = as_uniform(random_bits(1, 0, torch.arange(count), streams)).T.tolist()
    drawn = [random_box(width, height, scale, row, shape) for row in numbers]
    return np.array([(box.left, box.top, box.width, box.height) for box in drawn])


@pytest.mark.parametrize(("width", "height", "size"), [(500, 375, 224), (300, 420, 224), (500, 375, (128, 320))])
def test_random_boxes_are_distributed_as_torchvisions(width: int, height: int, size: int | tuple[int, int]) -> None:
    shape = size[1] / size[0] if isinstance(size, tuple) else 1.0
    ours = boxes(width, height, [0.08, 1.0], 4000, shape)
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    crop = v2.RandomResizedCrop(size, ratio=(3 / 4 * shape, 4 / 3 * shape))
    drawn = [crop.make_params([image]) for _ in range(4000)]
    theirs = np.array([(p["left"], p["top"], p["width"], p["height"]) for p in drawn])
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    for array in (ours, theirs):
        assert (array[:, :2] >= 0).all()
        assert (array[:, :2] + array[:, 2:] <= (width, height)).all()
    assert stats.ks_2samp(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]).pvalue > 1e-3


@pytest.mark.parametrize(("width", "height"), [(1000, 20), (20, 1000)])
def test_box_of_a_narrow_image_is_its_center(width: int, height: int) -> None:
    # No part of 90 % of such an image has an aspect ratio up to 4/3.
    (box,) = {tuple(row) for row in boxes(width, height, [0.9, 1.0], 20).tolist()}
    long = round(20 * 4 / 3)
    assert box == ((1000 - long) // 2, 0, long, 20) if width > height else (0, (1000 - long) // 2, 20, long)


def test_scale_jitter_crops_a_resized_image() -> None:
    """Simonyan & Zisserman 2014: the shorter side is 256 to 512 pixels, and the crop 224 at any position."""
    crop = RandomCrop(AugmentConfig(scale_jitter=[256, 512]), 224, seed=1)
    drawn = [crop.box(600, 300, row) for row in crop.numbers(0, torch.arange(4000))]
    assert all(box.width == box.height and box.left + box.width <= 600 and box.bottom <= 300 for box in drawn)
    shorter_sides = np.array([300 * 224 / box.width for box in drawn])
    assert stats.kstest(shorter_sides, stats.uniform(256, 257).cdf).statistic < 0.03
    assert stats.kstest([box.left / (600 - box.width) for box in drawn], "uniform").statistic < 0.03
    assert min(box.top for box in drawn) == 0
    assert max(box.bottom for box in drawn) == 300


def test_scale_jitter_of_images_that_are_not_square() -> None:
    crop = RandomCrop(AugmentConfig(scale_jitter=[120, 240]), [120, 360], seed=1)
    drawn = [crop.box(600, 300, row) for row in crop.numbers(0, torch.arange(4000))]
    # The image covers 120 x 360 to 240 x 720 pixels: its width is 360 to 720.
    widths = np.array([600 * 360 / box.width for box in drawn])
    assert stats.kstest(widths / 3, stats.uniform(120, 121).cdf).statistic < 0.03
    assert all(abs(box.width / box.height - 3) < 0.03 and box.bottom <= 300 for box in drawn)
    assert max(box.bottom for box in drawn) == 300
