"""Policies compared with torchvision's over many draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from convoy.config.augment_schema import AugmentConfig
from convoy.config.image_size import Sides
from convoy.data.augmentation.batch_augmentation import BatchAugmentation, augment_batch

SIZE, DRAWS = Sides(32, 44), 500
BILINEAR = InterpolationMode.BILINEAR


def picture() -> Tensor:
    """Return an image with a gradient, an edge and color, uint8 [3, *SIZE]."""
    down, across = (torch.linspace(40, 200, side) for side in SIZE)
    image = torch.stack([down[:, None].expand(SIZE), across.expand(SIZE), (down[:, None] + across) / 2])
    image[:, 8:20, 12:26] = torch.tensor([230.0, 60.0, 120.0])[:, None, None]
    return image.to(torch.uint8)


def facts(images: Tensor) -> Tensor:
    """Return numbers that depend on color and geometry, float64 [B, 9]."""
    values = images.double()
    return torch.cat(
        [
            values.mean(dim=(2, 3)),
            values.std(dim=(1, 2, 3))[:, None],
            values[:, 0, 16, 16][:, None],
            values[:, 1, 2, 2][:, None],
            values[:, 2, 30, 4][:, None],
            values[:, :, 16, 11].mean(1)[:, None],
            (values[:, :, 1:] - values[:, :, :-1]).abs().mean(dim=(1, 2, 3))[:, None],
        ],
        dim=1,
    )


def chosen_three() -> v2.Transform:
    blur = v2.GaussianBlur(13, (0.1, 2.0))
    return v2.RandomChoice([v2.Grayscale(3), v2.RandomSolarize(128, p=1.0), blur])


CASES: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "rand_augment": ({"rand_augment": [2, 9]}, lambda: v2.RandAugment(2, 9, interpolation=BILINEAR)),
    "trivial_augment": ({"trivial_augment": True}, lambda: v2.TrivialAugmentWide(interpolation=BILINEAR)),
    "auto_augment": (
        {"auto_augment": "cifar10"},
        lambda: v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, interpolation=BILINEAR),
    ),
    "augmix": ({"augmix": 3}, lambda: v2.AugMix(3)),
    "three_augment": ({"three_augment": True}, chosen_three),
    "rotation": ({"rotation": 30}, lambda: v2.RandomRotation(30, BILINEAR, fill=None)),
    "affine": (
        {"affine": [20, 0.1, 0.2, 15]},
        lambda: v2.RandomAffine(20, (0.1, 0.1), (0.8, 1.2), (-15, 15), BILINEAR, fill=None),
    ),
    "perspective": ({"perspective": 0.5}, lambda: v2.RandomPerspective(0.5, 0.5, BILINEAR, fill=None)),
    "color_jitter": ({"color_jitter": [0.4, 0.4, 0.4, 0.1]}, lambda: v2.ColorJitter(0.4, 0.4, 0.4, 0.1)),
    "grayscale": ({"grayscale": 0.3}, lambda: v2.RandomGrayscale(0.3)),
    "blur": ({"blur": 0.5}, lambda: v2.RandomApply([v2.GaussianBlur(13, (0.1, 2.0))], 0.5)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_results_have_the_distribution_of_torchvision(name: str) -> None:
    settings, reference = CASES[name]
    image = picture()
    augmentation = BatchAugmentation(AugmentConfig(**settings), SIZE, seed=3)
    operations = augmentation.draw(0, torch.arange(DRAWS))
    assert operations is not None
    ours = facts(augment_batch(image.expand(DRAWS, 3, *SIZE).clone(), operations))
    transform = reference()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        theirs = facts(torch.stack([transform(image) for _ in range(DRAWS)]))
    # Means and variances differ by at most 4.5 standard errors; all random numbers are constant.
    for values in (lambda one: one, lambda one: (one - one.mean(0)) ** 2):
        first, second = values(ours), values(theirs)
        error = ((first.var(0) + second.var(0)) / DRAWS).sqrt() + 1e-3
        assert ((first.mean(0) - second.mean(0)).abs() / error).max() < 4.5


def test_lighting_follows_the_principal_components() -> None:
    """Krizhevsky et al. 2012, section 4.1: shifts with the covariance of the pixels, times the variance."""
    operations = BatchAugmentation(AugmentConfig(pca_lighting=0.5), SIZE, seed=1).draw(0, torch.arange(20_000))
    assert operations is not None
    shifts = operations.later[0].values[:, :3].double() / 255
    vectors = torch.tensor([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    spread = torch.linalg.inv(vectors.double()) @ shifts.T
    assert torch.allclose(spread.std(1), 0.5 * torch.tensor([0.2175, 0.0188, 0.0045]).double(), rtol=0.03)


def test_erasing_has_the_distribution_of_torchvision() -> None:
    boxes = BatchAugmentation(AugmentConfig(erasing=0.25), SIZE, seed=1).draw_erasing(0, torch.arange(20_000))
    assert boxes is not None
    is_erased = boxes[2] > 0
    assert is_erased.double().mean() == pytest.approx(0.25, abs=0.01)
    top, left, height, width = boxes[:, is_erased].double()
    assert ((top >= 0) & (left >= 0) & (top + height <= SIZE.height) & (left + width <= SIZE.width)).all()
    transform, image = v2.RandomErasing(p=1.0, value=1.0), torch.zeros(1, *SIZE)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        theirs = torch.stack([transform(image).sum() for _ in range(3000)]).double()
    assert (height * width).mean() == pytest.approx(float(theirs.mean()), rel=0.03)
    assert (height * width).std() == pytest.approx(float(theirs.std()), rel=0.05)


def test_numbers_of_a_sample_do_not_depend_on_its_batch() -> None:
    augment = AugmentConfig(rand_augment=[2, 12], color_jitter=[0.4, 0.4, 0.4, 0.1], blur=0.5, erasing=0.5)
    augmentation = BatchAugmentation(augment, SIZE, seed=9)
    samples = torch.tensor([7, 3, 50, 12])
    images = picture().expand(4, 3, *SIZE).clone()
    whole = augmentation.draw(2, samples)
    assert whole is not None
    expected = augment_batch(images.clone(), whole)
    for index in range(4):
        alone = augmentation.draw(2, samples[index : index + 1])
        assert alone is not None
        assert torch.equal(augment_batch(images[:1].clone(), alone)[0], expected[index])
    assert len(expected.flatten(1).unique(dim=0)) == 4
