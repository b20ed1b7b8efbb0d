"""Augmentation of whole batches: random operations and their order, from `data.augment`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convoy.config.augment_schema import AugmentConfig
from convoy.config.image_size import ImageSize, Sides, sides_of
from convoy.data.augmentation import policies, warps
from convoy.data.augmentation.operations import NUM_VALUES, Kind, Step, apply, step_of
from convoy.data.augmentation.policies import Drawn
from convoy.data.sampling.randomness import Stream, as_uniform, random_bits

Numbers = NDArray[np.float64]

# Eigenvalues and eigenvectors (columns) of the covariance of RGB values of ImageNet's training images, values in 0..1.
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
_EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])

_STRONGEST_BLUR = 2.0
_WEAKEST_BLUR = 0.1
"""Standard deviations in pixels, as in SimCLR (Chen et al. 2020) and DeiT III (Touvron et al. 2022)."""

_ERASED_AREA = (0.02, 0.33)
_ERASED_RATIO = (0.3, 3.3)
_ERASING_TRIES = 10


class BatchOperations(NamedTuple):
    """Operations on a batch.

    Attributes:
        steps: applied one after the other.
        chains: operations of AugMix, applied to copies after `steps`; the results are mixed.
        weights: float32 [B, 1 + number of chains], None without AugMix.
        later: applied after the mixture.
    """

    steps: tuple[Step, ...]
    chains: tuple[tuple[Step, ...], ...]
    weights: Tensor | None
    later: tuple[Step, ...]

    @property
    def in_order(self) -> tuple[Step, ...]:
        """All steps of a batch without AugMix, one after the other."""
        return *self.steps, *self.later


class BatchAugmentation:
    """Operations of `data.augment` on whole batches.

    Args:
        augment: settings.
        image_size: size of the images.
        seed: seed of the run.
    """

    def __init__(self, augment: AugmentConfig, image_size: ImageSize, seed: int) -> None:
        self._augment = augment
        self._size = sides_of(image_size)
        self._seed = seed

    def draw(self, epoch: int, samples: Tensor) -> BatchOperations | None:
        """Draw the operations on `samples`, [B] int64 on the CPU; None if all are off."""
        if not self._augment.has_operations:
            return None
        numbers = _Numbers(self._seed, epoch, samples)
        chains: list[list[Drawn]] = []
        weights = None
        if severity := self._augment.augmix:
            drawn = numbers.of(Stream.POLICY, policies.NUM_AUGMIX_NUMBERS)
            chains, mixture = policies.augmix(severity, drawn, self._size)
            weights = torch.from_numpy(mixture)
        return BatchOperations(
            tuple(step_of(*one) for one in self._policy(numbers)),
            tuple(tuple(step_of(*one) for one in chain) for chain in chains),
            weights,
            tuple(step_of(*one) for one in [*self._geometry(numbers), *self._colors(numbers)]),
        )

    def draw_erasing(self, epoch: int, samples: Tensor) -> Tensor | None:
        """Draw a rectangle per sample that is set to the mean, int64 [4, B]: top, left, height, width.

        As torchvision's RandomErasing (Zhong et al. 2017, arXiv 1708.04896). Height and width are 0 for samples that
        stay as they are. None if data.augment.erasing is 0.
        """
        if not self._augment.erasing:
            return None
        drawn = _Numbers(self._seed, epoch, samples).of(Stream.ERASING, 3 + 2 * _ERASING_TRIES)
        size, tries = self._size, drawn[3:].reshape(_ERASING_TRIES, 2, -1)
        areas = size.height * size.width * _between(tries[:, 0], _ERASED_AREA)
        ratios = np.exp(_between(tries[:, 1], np.log(_ERASED_RATIO)))
        heights, widths = np.round(np.sqrt(areas * ratios)), np.round(np.sqrt(areas / ratios))
        fits = (heights < size.height) & (widths < size.width)
        first, every = fits.argmax(axis=0), np.arange(len(samples))
        is_erased = (drawn[0] < self._augment.erasing) & fits.any(axis=0)
        height, width = (np.where(is_erased, sides[first, every], 0) for sides in (heights, widths))
        top = np.floor(drawn[1] * (size.height - height + 1))
        left = np.floor(drawn[2] * (size.width - width + 1))
        return torch.from_numpy(np.stack([top, left, height, width]).astype(np.int64))

    def _policy(self, numbers: _Numbers) -> Iterator[Drawn]:
        augment, size = self._augment, self._size
        if augment.rand_augment is not None:
            num_ops, magnitude = augment.rand_augment
            for drawn in numbers.of(Stream.POLICY, 2 * num_ops).reshape(num_ops, 2, -1):
                yield policies.rand_augment(magnitude, drawn, size)
        if augment.trivial_augment:
            yield policies.trivial_augment(numbers.of(Stream.POLICY, 3), size)
        if augment.auto_augment is not None:
            yield from policies.auto_augment(augment.auto_augment, numbers.of(Stream.POLICY, 5), size)
        if augment.three_augment:
            yield _three_augment(numbers.of(Stream.THREE_AUGMENT, 2))

    def _geometry(self, numbers: _Numbers) -> Iterator[Drawn]:
        augment, size = self._augment, self._size
        if augment.rotation:
            degrees = _around(numbers.of(Stream.ROTATION, 1)[0], augment.rotation)
            yield _everywhere(Kind.AFFINE, warps.rotate(degrees, size))
        if augment.affine is not None:
            most_degrees, most_shift, most_scale, most_shear = augment.affine
            drawn = numbers.of(Stream.AFFINE, 5)
            sides = (size.width, size.height)
            shift = [np.round(_around(one, most_shift * side)) for one, side in zip(drawn[1:3], sides, strict=True)]
            yield _everywhere(
                Kind.AFFINE,
                warps.about_center(
                    _around(drawn[0], most_degrees),
                    np.stack(shift),
                    1 + _around(drawn[3], most_scale),
                    _around(drawn[4], most_shear),
                    size,
                ),
            )
        if augment.perspective:
            yield _perspective(numbers.of(Stream.PERSPECTIVE, 9), augment.perspective, size)

    def _colors(self, numbers: _Numbers) -> Iterator[Drawn]:
        augment = self._augment
        if augment.color_jitter is not None:
            yield from _color_jitter(augment.color_jitter, numbers.of(Stream.COLOR_JITTER, 8))
        if augment.grayscale:
            yield _sometimes(numbers.of(Stream.GRAYSCALE, 1)[0], augment.grayscale, Kind.BLEND, [0.0, 0.0, 1.0])
        if augment.blur:
            drawn = numbers.of(Stream.BLUR, 2)
            sigma = _between(drawn[1], (_WEAKEST_BLUR, _STRONGEST_BLUR))
            yield _sometimes(drawn[0], augment.blur, Kind.BLUR, sigma[:, None])
        if augment.pca_lighting:
            drawn = numbers.of(Stream.PCA_LIGHTING, 6).reshape(2, 3, -1)
            # Box and Muller's transform of uniform to normal numbers.
            normal = np.sqrt(-2 * np.log1p(-drawn[0])) * np.cos(2 * np.pi * drawn[1])
            strengths = augment.pca_lighting * normal * _EIGENVALUES[:, None]
            yield _everywhere(Kind.SHIFT, 255 * (_EIGENVECTORS @ strengths).T)


def augment_batch(images: Tensor, operations: BatchOperations) -> Tensor:
    """Return a batch with the operations applied.

    Args:
        images: uint8 [B, C, H, W].
        operations: from `BatchAugmentation.draw`, on the device of the images.
    """
    # Planes, over which color operations are vectorized; the normalization restores any memory format.
    images = images.contiguous()
    for step in operations.steps:
        images = apply(images, step)
    if operations.weights is not None:
        weights = operations.weights[:, :, None, None, None]
        mixture = images * weights[:, 0]
        for number, chain in enumerate(operations.chains, 1):
            changed = images
            for step in chain:
                changed = apply(changed, step)
            mixture += changed * weights[:, number]
        images = mixture.clamp_(0, 255).to(torch.uint8)
    for step in operations.later:
        images = apply(images, step)
    return images


class _Numbers:
    """Uniform random numbers of samples by stream."""

    def __init__(self, seed: int, epoch: int, samples: Tensor) -> None:
        self._source = seed, epoch, samples

    def of(self, stream: Stream, count: int) -> Numbers:
        """Return float64 [count, B] in [0, 1)."""
        seed, epoch, samples = self._source
        bits = random_bits(seed, epoch, samples, range(stream, stream + count))
        return as_uniform(bits).numpy().astype(np.float64)


def _between(numbers: Numbers, bounds: tuple[float, float] | Numbers) -> Numbers:
    return bounds[0] + numbers * (bounds[1] - bounds[0])


def _around(numbers: Numbers, largest: float) -> Numbers:
    return (2 * numbers - 1) * largest


def _everywhere(kind: Kind, values: Numbers) -> Drawn:
    padded = np.zeros((len(values), NUM_VALUES), dtype=np.float32)
    padded[:, : values.shape[1]] = values
    return np.full(len(values), int(kind)), padded


def _sometimes(numbers: Numbers, probability: float, kind: Kind, row: Numbers | list[float]) -> Drawn:
    values = np.zeros((len(numbers), NUM_VALUES), dtype=np.float32)
    values[:, : np.shape(row)[-1]] = row
    return np.where(numbers < probability, int(kind), int(Kind.NONE)), values


def _three_augment(numbers: Numbers) -> Drawn:
    """Return grayscale, solarization or blur with equal probability (Touvron et al. 2022, arXiv 2204.07118)."""
    chosen = (numbers[0] * 3).astype(np.int64)
    rows = np.zeros((3, NUM_VALUES), dtype=np.float32)
    rows[0, :3], rows[1, :3] = [0, 0, 1], [8, 128, 255]
    values = rows[chosen]
    values[chosen == 2, 0] = _between(numbers[1], (_WEAKEST_BLUR, _STRONGEST_BLUR))[chosen == 2]
    return np.array([Kind.BLEND, Kind.BITS, Kind.BLUR])[chosen], values


_JITTERED = np.array([Kind.BLEND, Kind.BLEND, Kind.BLEND, Kind.HUE])
_SHARES = np.array([[0, 0], [1, 0], [0, 1], [0, 0]])
"""Shares of the mean and of the gray image in the blends of brightness, contrast and saturation."""


def _color_jitter(settings: list[float], numbers: Numbers) -> Iterator[Drawn]:
    """Yield changes of brightness, contrast, saturation and hue, in a random order per image."""
    factors = np.stack(
        [_between(one, (max(0.0, 1 - width), 1 + width)) for one, width in zip(numbers[:3], settings[:3], strict=True)]
        + [_around(numbers[3], settings[3])]
    )
    kinds = np.where(np.array(settings) == 0, int(Kind.NONE), _JITTERED)
    for places in numbers[4:].argsort(axis=0):
        values = np.zeros((len(places), NUM_VALUES), dtype=np.float32)
        values[:, 0] = np.take_along_axis(factors, places[None], axis=0)[0]
        values[:, 1:3] = _SHARES[places]
        yield kinds[places], values


def _perspective(numbers: Numbers, distortion: float, size: Sides) -> Drawn:
    """Return a change of perspective with probability 1/2, as torchvision's RandomPerspective."""
    right, bottom = size.width - 1, size.height - 1
    most = np.array([int(distortion * (side // 2)) for side in (size.width, size.height)])
    corners = np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]], dtype=np.float64)
    inwards = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    moved = np.floor(numbers[1:].T.reshape(-1, 4, 2) * (most + 1)) * inwards
    coefficients = warps.perspective(np.broadcast_to(corners, moved.shape), corners + moved)
    kinds, values = _everywhere(Kind.PERSPECTIVE, coefficients)
    return np.where(numbers[0] < 0.5, kinds, int(Kind.NONE)), values
