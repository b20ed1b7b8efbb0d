"""Tests of data.transforms: the transformed images, and their random numbers."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torchvision.transforms import v2

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.config.trust import TRUST
from convoy.data.augmentation.transforms import ImageTransforms
from convoy.data.check import check_data
from convoy.data.data_module import ImageData
from convoy.data.sampling.randomness import SampleRandomness

INVERT = {"_target_": "torchvision.transforms.v2.RandomInvert", "p": 1.0}
JITTER = {"_target_": "torchvision.transforms.v2.ColorJitter", "brightness": 0.5, "hue": 0.2}
GRAY_JITTER = {"_target_": "torchvision.transforms.v2.ColorJitter", "brightness": 0.5}


def digits(**changes: Any) -> DataConfig:
    settings = {"name": "digits", "source": "digits", "channels": 1, "image_size": 8, "mean": [0.3], "std": [0.3]}
    return DataConfig(**(settings | changes))


def opened(data: DataConfig, **changes: Any) -> ImageData:
    settings = {"seed": 5, "micro_batch_size": 8, "accumulation": 1, "eval_batch_size": 8} | changes
    module = ImageData(data, **settings)
    module.open()
    return module


def images_of(data: DataConfig, first_step: int = 0, num_batches: int = 3, **changes: Any) -> Tensor:
    batches = opened(data, **changes).training_loader(first_step)
    return torch.cat([batch.images for _, batch in zip(range(num_batches), batches, strict=False)])


def make(kind: str, folder_data: Any, digits_folder: Path, **changes: Any) -> DataConfig:
    if kind == "memory":
        return digits(**changes)
    return folder_data(digits_folder, **changes)


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_training_images_are_transformed_and_val_images_are_not(
    kind: str, folder_data: Any, digits_folder: Path
) -> None:
    statistics = {"mean": [0.5], "std": [0.5]}
    plain = make(kind, folder_data, digits_folder, **statistics)
    inverted = make(kind, folder_data, digits_folder, transforms=[INVERT], **statistics)
    # With these statistics normalized pixels are 2x - 1, whose sign inversion flips.
    assert torch.allclose(images_of(inverted), -images_of(plain), atol=1e-6)
    ours, theirs = (next(iter(opened(data).evaluation_loader("val"))) for data in (inverted, plain))
    assert torch.equal(ours.images, theirs.images)


def test_transforms_come_after_the_random_crop(folder_data: Any, digits_folder: Path) -> None:
    augment = AugmentConfig(random_resized_crop=[0.2, 0.8], flip=True)
    statistics = {"mean": [0.5], "std": [0.5]}
    plain = images_of(folder_data(digits_folder, augment=augment, **statistics))
    inverted = images_of(folder_data(digits_folder, augment=augment, transforms=[INVERT], **statistics))
    assert torch.allclose(inverted, -plain, atol=1e-6)


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_random_numbers_follow_from_seed_epoch_and_sample(kind: str, folder_data: Any, digits_folder: Path) -> None:
    jitter = GRAY_JITTER if kind == "memory" else JITTER
    data = make(kind, folder_data, digits_folder, transforms=[jitter], num_workers=1)
    torch.manual_seed(1)
    first = images_of(data)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    data.num_workers = 3
    assert torch.equal(images_of(data), first)
    assert torch.equal(images_of(data, first_step=2, num_batches=1), first[16:])
    assert torch.equal(images_of(data, micro_batch_size=4, accumulation=2, num_batches=6), first)
    assert not torch.equal(images_of(data, seed=6), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state), "torch's own generator must not be used"


def test_each_image_is_transformed_separately() -> None:
    jittered = images_of(digits(transforms=[GRAY_JITTER], mean=[0.0], std=[1.0]), num_batches=1)
    plain = images_of(digits(mean=[0.0], std=[1.0]), num_batches=1)
    factors = jittered.mean(dim=(1, 2, 3)) / plain.mean(dim=(1, 2, 3))
    assert factors.unique().numel() == len(factors)
    assert 0.4 < float(factors.min()) < float(factors.max()) < 1.5


@pytest.mark.parametrize(
    "transform",
    [
        v2.ColorJitter(0.5, 0.5, 0.5, 0.2),
        v2.RandAugment(),
        v2.AugMix(),
        v2.TrivialAugmentWide(),
        v2.AutoAugment(),
        v2.RandomErasing(p=1.0, value="random"),
        v2.RandomAffine(30, (0.2, 0.2), (0.5, 1.5)),
        v2.ElasticTransform(),
        v2.RandomPerspective(p=1.0),
        v2.GaussianBlur(3),
        v2.JPEG((5, 50)),
        v2.RandomChannelPermutation(),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_torchvision_transforms_depend_only_on_the_sample(transform: Any) -> None:
    image = torch.randint(0, 256, (3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    state = torch.get_rng_state()
    results = []
    for seed in (1, 1, -2, 3, 4):
        with SampleRandomness(seed):
            results.append(transform(image))
    assert torch.equal(results[0], results[1])
    assert any(not torch.equal(results[0], other) for other in results[2:])
    assert torch.equal(torch.get_rng_state(), state)


def test_randomness_of_a_sample_is_that_of_a_seeded_generator_and_of_its_thread() -> None:
    others: list[Tensor] = []
    with SampleRandomness(7):
        thread = threading.Thread(target=lambda: others.append(torch.rand(3)))
        thread.start()
        thread.join()
        drawn = torch.rand(3), torch.empty(3).uniform_(2, 3), torch.randperm(5), torch.randn_like(drawn_like())
        given = torch.rand(3, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(7)
    assert torch.equal(drawn[0], torch.rand(3, generator=generator))
    assert torch.equal(drawn[1], torch.empty(3).uniform_(2, 3, generator=generator))
    assert torch.equal(drawn[2], torch.randperm(5, generator=generator))
    assert torch.equal(drawn[3], torch.randn(2, 2, generator=generator))
    assert torch.equal(given, torch.rand(3, generator=torch.Generator().manual_seed(1)))
    assert not torch.equal(others[0], drawn[0])


def drawn_like() -> Tensor:
    return torch.zeros(2, 2)


@pytest.mark.parametrize(
    ("node", "key", "message"),
    [
        ({"p": 1}, "data.transforms[0]", "has no _target_"),
        ({"_target_": "os.system", "command": "true"}, "data.transforms[0]._target_", "neither built in nor named"),
    ],
)
def test_faults_that_a_check_finds(node: dict[str, Any], key: str, message: str) -> None:
    (fault,) = check_data(digits(transforms=[node]))
    assert fault.key == key
    assert message in str(fault)


def wrong_size(image: Tensor) -> Tensor:
    return image[:, 1:]


def broken(image: Tensor) -> Tensor:  # noqa: ARG001 (a transform's signature)
    raise ValueError("no such colour")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"_target_": "torchvision.transforms.v2.ColorJitter", "brightnes": 1},
            r"data.transforms\[0\].brightnes=1: .*no such argument",
        ),
        (
            {"_target_": "torchvision.transforms.v2.ColorJitter", "brightness": -1},
            r"can't be built \(ValueError: .*non negative",
        ),
    ],
)
def test_a_transform_that_cannot_be_built(node: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        opened(digits(transforms=[node]))


@pytest.mark.parametrize("kind", ["memory", "folder"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong_size", r"returns torch.uint8 \[., 7, 8\] for an image of torch.uint8 \[., 8, 8\]; use transforms that"),
        ("broken", r"raises ValueError: no such colour; see .*test_transforms.py, line \d+"),
    ],
)
def test_a_transform_that_fails(kind: str, name: str, message: str, folder_data: Any, digits_folder: Path) -> None:
    node = {"_target_": f"{__name__}.{name}", "_partial_": True}
    TRUST.add_composed(OmegaConf.create({"data": {"transforms": [{"inner": node}]}}))
    compose = {"_target_": "torchvision.transforms.v2.Lambda", "lambd": node}
    data = make(kind, folder_data, digits_folder, transforms=[compose], image_size=8)
    with pytest.raises(UserError, match=message) as caught:
        images_of(data)
    assert caught.value.faults[0].key == "data.transforms[0]"


NOISE = {"_target_": "albumentations.GaussNoise", "p": 1.0}
TRANSPOSE = {"_target_": "albumentations.Transpose", "p": 0.5}
SEVERAL = {"_target_": "albumentations.Compose", "transforms": [NOISE, TRANSPOSE]}
INVERTED = {"_target_": "albumentations.InvertImg", "p": 1.0}
CROP = {"_target_": "albumentations.RandomCrop", "height": 4, "width": 4}


@pytest.fixture
def albumentations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Albumentations, in the user's own config."""
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    pytest.importorskip("albumentations")
    TRUST.add_composed(OmegaConf.create({"data": {"transforms": [SEVERAL, INVERTED, CROP]}}))


@pytest.mark.parametrize("kind", ["memory", "folder"])
@pytest.mark.usefixtures("albumentations")
def test_albumentations_draws_follow_from_the_position(kind: str, folder_data: Any, digits_folder: Path) -> None:
    data = make(kind, folder_data, digits_folder, transforms=[SEVERAL])
    whole = images_of(data, num_batches=4)
    assert not torch.equal(whole, images_of(make(kind, folder_data, digits_folder), num_batches=4))
    assert torch.equal(whole[16:], images_of(data, first_step=2, num_batches=2))
    for num_threads in (1, 4):
        assert torch.equal(whole, images_of(replace(data, num_workers=num_threads), num_batches=4))


@pytest.mark.usefixtures("albumentations")
def test_a_transform_of_albumentations_gives_its_own_pixels() -> None:
    data = digits(transforms=[INVERTED], channels=3)
    image = torch.arange(2 * 4 * 3, dtype=torch.uint8).view(3, 2, 4) + 100
    assert torch.equal(ImageTransforms(data, 0)(image, -7), 255 - image)
    both = ImageTransforms(replace(data, transforms=[NOISE, NOISE]), 0)(image, 7).int() - image.int()
    once = ImageTransforms(replace(data, transforms=[NOISE]), 0)(image, 7).int() - image.int()
    assert once.any()
    assert not torch.equal(both, 2 * once), "each transform of a list has its own draws"


@pytest.mark.usefixtures("albumentations")
def test_albumentations_with_another_size_is_refused() -> None:
    with pytest.raises(UserError, match=r"returns torch.uint8 \[1, 4, 4\] for an image"):
        ImageTransforms(digits(transforms=[CROP]), 0)(torch.zeros(1, 8, 8, dtype=torch.uint8), 3)
