"""Tests of batch augmentation against single samples, and against torchvision."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from convoy.config.augment_schema import AugmentConfig
from convoy.data.augmentation.normalization import Normalizer, cut_out
from convoy.data.augmentation.padded_crops import Draws, WindowLayout, WindowSource, draw

CPU = torch.device("cpu")
GENERATOR = torch.Generator().manual_seed(3)


def random_images(num_images: int, channels: int, height: int, width: int | None = None) -> torch.Tensor:
    shape = (num_images, channels, height, width or height)
    return torch.randint(0, 256, shape, generator=GENERATOR).to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("width", [12, 17])
def test_windows_are_those_of_torchvision_one_by_one(channels: int, padding: int, mirror: bool, width: int) -> None:
    images = random_images(20, channels, 12, width)
    augment = AugmentConfig(pad_crop=padding, flip=mirror)
    samples = torch.tensor([4, 4, 19, 0, 7, 11, 3, 4])
    draws = draw(augment, (12, width), 1, 5, samples)
    source = WindowSource.of(images, padding, mirror)
    cut = source.cut(WindowLayout((12, width), channels, padding, mirror).starts(samples, draws))
    assert cut.dtype == torch.uint8
    assert cut.is_contiguous(memory_format=torch.channels_last)
    for place, sample in enumerate(samples):
        padded = v2.functional.pad(images[sample], [padding] * 4)
        if draws.mirrored[place]:
            padded = v2.functional.horizontal_flip(padded)
        top, left = draws.window[:, place].tolist()
        assert torch.equal(cut[place], v2.functional.crop(padded, top, left, 12, width))


def test_last_window_of_the_last_image_is_within_memory() -> None:
    images = random_images(2, 3, 8)
    source = WindowSource.of(images, 2, True)
    last = Draws(torch.tensor([[4], [4]]), torch.tensor([True]), None)
    start = WindowLayout(8, 3, 2, True).starts(torch.tensor([1]), last)
    expected = v2.functional.crop(v2.functional.horizontal_flip(v2.functional.pad(images[1], [2] * 4)), 4, 4, 8, 8)
    assert torch.equal(source.cut(start)[0], expected)


def test_every_window_is_equally_likely_and_half_of_them_mirrored() -> None:
    draws = draw(AugmentConfig(pad_crop=2, flip=True), 32, 0, 0, torch.arange(40_000))
    places = draws.window[0] * 5 + draws.window[1]
    joint = torch.bincount(places * 2 + draws.mirrored, minlength=50)
    assert len(joint) == 50
    assert stats.chisquare(joint.numpy()).pvalue > 1e-4


def test_each_epoch_draws_anew_and_disabled_augmentation_is_identity() -> None:
    samples = torch.arange(1000)
    on = AugmentConfig(pad_crop=4, flip=True, cutout=8)
    first, second = (draw(on, 32, 0, epoch, samples) for epoch in (0, 1))
    assert not torch.equal(first.window, second.window)
    off = draw(AugmentConfig(), 32, 0, 0, samples)
    assert not off.window.any()
    assert not off.mirrored.any()
    assert off.cutout is None


@pytest.mark.parametrize("mean_and_std", [([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]), ([0.3], [0.2])])
def test_normalization_is_torchvisions(mean_and_std: tuple[list[float], list[float]]) -> None:
    mean, std = mean_and_std
    images = random_images(5, 3, 16)
    expected = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])(images)
    for given in (images, images.to(memory_format=torch.channels_last)):
        normalized = Normalizer(mean, std, 3, 16, CPU)(given)
        assert normalized.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(normalized, expected, rtol=0, atol=2e-6)


def test_normalization_of_a_sample_does_not_depend_on_its_batch() -> None:
    images = random_images(37, 3, 20)
    normalize = Normalizer([0.5, 0.4, 0.3], [0.2, 0.3, 0.1], 3, 20, CPU)
    whole = normalize(images)
    for size in (1, 2, 5, 36):
        assert torch.equal(torch.cat([normalize(part) for part in images.split(size)]), whole)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [1, 4, 7])
def test_cutout_sets_one_clipped_square_to_the_mean(channels: int, side: int) -> None:
    samples = torch.arange(200)
    corner = draw(AugmentConfig(cutout=side), 12, 1, 0, samples).cutout
    assert corner is not None
    images = torch.ones(200, channels, 12, 12).to(memory_format=torch.channels_last)
    cut = cut_out(images.clone(memory_format=torch.preserve_format), corner, (side, side))
    for place in range(200):
        expected = images[place].clone()
        top, left = corner[:, place].tolist()
        expected[:, max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = 0
        assert torch.equal(cut[place], expected)
    centres = corner + side // 2
    assert centres.min() == 0
    assert centres.max() == 11


def test_centers_of_cutout_are_in_the_whole_image() -> None:
    corner = draw(AugmentConfig(cutout=4), (12, 30), 1, 0, torch.arange(2000)).cutout
    assert corner is not None
    assert (corner + 2).amax(1).tolist() == [11, 29]
    assert (corner + 2).amin(1).tolist() == [0, 0]
    images = torch.ones(2000, 3, 12, 30).to(memory_format=torch.channels_last)
    kept = cut_out(images, corner, (4, 4))[0, 0]
    top, left = corner[:, 0].tolist()
    assert not kept[max(0, top) : top + 4, max(0, left) : left + 4].any()
    assert kept.sum() >= 12 * 30 - 16
