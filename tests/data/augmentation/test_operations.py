"""Operations on batches compared with torchvision's on single images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from convoy.config.image_size import Sides
from convoy.data.augmentation import warps
from convoy.data.augmentation.operations import BLUR_RADIUS, NUM_VALUES, Kind, apply, step_of
from convoy.data.checks.augmentation import SMALLEST_BLURRED

SIZE = Sides(33, 39)
BILINEAR = InterpolationMode.BILINEAR


def pictures(count: int, channels: int = 3) -> Tensor:
    """Return smooth and noisy images, uint8 [count, channels, *SIZE] in channels_last."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randint(0, 256, (count, channels, *SIZE), generator=generator)
    ramp = (torch.arange(SIZE.height) * 7)[None, None, :, None] + torch.arange(SIZE.width) * torch.tensor([3, 1, 5])[
        :channels, None, None
    ]
    images = torch.where(torch.arange(count)[:, None, None, None] % 2 == 0, noise, (ramp // 2).clamp(30, 220))
    return images.to(torch.uint8).contiguous(memory_format=torch.channels_last)


def padded(values: Any) -> np.ndarray:
    rows = np.asarray(values, dtype=np.float32).reshape(len(values), -1)
    return np.pad(rows, ((0, 0), (0, NUM_VALUES - rows.shape[1])))


FACTORS = [0.0, 0.1, 0.55, 1.0, 1.3, 1.9]
BITS, THRESHOLDS = [0, 1, 3, 4, 7, 8], [0.0, 12.5, 128.0, 200.0, 254.5, 255.0]
CASES: dict[str, tuple[Kind, list[Any], Callable[[Tensor, Any], Tensor]]] = {
    "brightness": (
        Kind.BLEND,
        [[factor, 0, 0] for factor in FACTORS],
        lambda image, row: v2.functional.adjust_brightness(image, row[0]),
    ),
    "contrast": (
        Kind.BLEND,
        [[factor, 1, 0] for factor in FACTORS],
        lambda image, row: v2.functional.adjust_contrast(image, row[0]),
    ),
    "saturation": (
        Kind.BLEND,
        [[factor, 0, 1] for factor in FACTORS],
        lambda image, row: v2.functional.adjust_saturation(image, row[0]),
    ),
    "sharpness": (Kind.SHARPNESS, FACTORS, v2.functional.adjust_sharpness),
    "hue": (Kind.HUE, [-0.5, -0.21, 0.0, 0.1, 0.33, 0.5], v2.functional.adjust_hue),
    "posterize": (
        Kind.BITS,
        [[bits, 0, 0] for bits in BITS],
        lambda image, row: v2.functional.posterize(image, row[0]),
    ),
    "solarize": (
        Kind.BITS,
        [[8, threshold, 255] for threshold in THRESHOLDS],
        lambda image, row: v2.functional.solarize(image, row[1]),
    ),
    "invert": (Kind.BITS, [[8, 0, 255]] * 2, lambda image, _: v2.functional.invert(image)),
    "autocontrast": (Kind.AUTOCONTRAST, [0, 0, 0, 0], lambda image, _: v2.functional.autocontrast(image)),
    "equalize": (Kind.EQUALIZE, [0, 0, 0, 0], lambda image, _: v2.functional.equalize(image)),
    "blur": (
        Kind.BLUR,
        [0.1, 0.5, 1.0, 2.0],
        lambda image, sigma: v2.functional.gaussian_blur(image, 2 * BLUR_RADIUS + 1, sigma),
    ),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_an_operation_equals_that_of_torchvision(name: str, channels: int) -> None:
    kind, values, reference = CASES[name]
    images = pictures(len(values), channels)
    expected = torch.stack([reference(image, value) for image, value in zip(images, values, strict=True)])
    images = apply(images, step_of(np.full(len(values), int(kind)), padded(values)))
    assert (images.int() - expected.int()).abs().max() <= 1


ANGLES = np.array([-135.0, -30.0, -4.5, 0.0, 17.0, 90.0])


@pytest.mark.parametrize(
    ("coefficients", "reference"),
    [
        (warps.rotate(ANGLES, SIZE), lambda image, i: v2.functional.rotate(image, ANGLES[i], BILINEAR)),
        (
            warps.shear_x(ANGLES / 150),
            lambda image, i: affine(image, shear=[math.degrees(math.atan(ANGLES[i] / 150)), 0.0], center=[0, 0]),
        ),
        (
            warps.shear_y(ANGLES / 150),
            lambda image, i: affine(image, shear=[0.0, math.degrees(math.atan(ANGLES[i] / 150))], center=[0, 0]),
        ),
        (
            warps.translate(np.trunc(ANGLES / 9), np.trunc(ANGLES / 20)),
            lambda image, i: affine(image, translate=[int(ANGLES[i] / 9), int(ANGLES[i] / 20)]),
        ),
        (
            warps.about_center(ANGLES, np.stack([ANGLES // 20, ANGLES // 40]), 1 + ANGLES / 300, ANGLES / 5, SIZE),
            lambda image, i: affine(
                image,
                angle=ANGLES[i],
                translate=[int(ANGLES[i] // 20), int(ANGLES[i] // 40)],
                scale=1 + ANGLES[i] / 300,
                shear=[ANGLES[i] / 5, 0.0],
            ),
        ),
    ],
    ids=["rotate", "shear_x", "shear_y", "translate", "about_center"],
)
def test_a_warp_equals_that_of_torchvision(coefficients: Any, reference: Callable[[Tensor, int], Tensor]) -> None:
    images = pictures(len(ANGLES))
    expected = torch.stack([reference(image, index) for index, image in enumerate(images)])
    images = apply(images, step_of(np.full(len(ANGLES), int(Kind.AFFINE)), padded(coefficients)))
    assert (images.int() - expected.int()).abs().max() <= 1


def affine(image: Tensor, **changes: Any) -> Tensor:
    arguments: dict[str, Any] = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]} | changes
    return v2.functional.affine(image, interpolation=BILINEAR, **arguments)


def test_a_perspective_equals_that_of_torchvision() -> None:
    images = pictures(4)
    right, bottom = SIZE.width - 1, SIZE.height - 1
    starts = np.tile(np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]], dtype=float), (4, 1, 1))
    ends = starts + np.random.default_rng(1).integers(0, 8, starts.shape) * np.array(
        [[1, 1], [-1, 1], [-1, -1], [1, -1]]
    )
    expected = torch.stack(
        [
            v2.functional.perspective(
                image, start.astype(int).tolist(), end.astype(int).tolist(), interpolation=BILINEAR
            )
            for image, start, end in zip(images, starts, ends, strict=True)
        ]
    )
    images = apply(images, step_of(np.full(4, int(Kind.PERSPECTIVE)), padded(warps.perspective(starts, ends))))
    assert (images.int() - expected.int()).abs().max() <= 1


def test_a_step_changes_each_image_by_its_operation_only() -> None:
    images = pictures(6)
    before = images.clone()
    kinds = np.array([Kind.BITS, Kind.NONE, Kind.BITS, Kind.BITS, Kind.NONE, Kind.SHIFT])
    values = np.zeros((6, NUM_VALUES), dtype=np.float32)
    values[[0, 3], :3] = [8, 0, 255]
    values[2, :3] = [8, 128, 255]
    values[5, :3] = [10, -300, 0.4]
    images = apply(images, step_of(kinds, values))
    assert torch.equal(images[[0, 3]], 255 - before[[0, 3]])
    assert torch.equal(images[[1, 4]], before[[1, 4]])
    assert torch.equal(images[2], v2.functional.solarize(before[2], 128))
    assert torch.equal(images[5, 0], (before[5, 0].int() + 10).clamp(max=255).to(torch.uint8))
    assert images[5, 1].max() == 0
    assert torch.equal(images[5, 2], before[5, 2])


def test_the_smallest_image_that_can_be_blurred_is_larger_than_the_mirrored_border() -> None:
    blurred = pictures(1)[:, :, :SMALLEST_BLURRED, :SMALLEST_BLURRED].clone()
    blurred = apply(blurred, step_of(np.array([Kind.BLUR]), padded([2.0])))
    with pytest.raises(RuntimeError, match="Padding size"):
        apply(blurred[:, :, 1:, 1:].clone(), step_of(np.array([Kind.BLUR]), padded([2.0])))
