"""Random operations of published augmentation policies, with the ranges of torchvision's implementations (v2).

- RandAugment: Cubuk et al. 2019, arXiv 1909.13719
- TrivialAugment (wide): Müller & Hutter 2021, arXiv 2103.10158
- AutoAugment: Cubuk et al. 2018, arXiv 1805.09501
- AugMix: Hendrycks et al. 2019, arXiv 1912.02781
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from convoy.config.image_size import Sides
from convoy.data.augmentation import warps
from convoy.data.augmentation.operations import NUM_VALUES, Kind

Numbers = NDArray[np.float64]
Drawn = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Kinds [B] and values [B, NUM_VALUES] of one operation per image."""

_SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
_UNSIGNED = ("Posterize", "Solarize", "AutoContrast", "Equalize")


@dataclass(frozen=True)
class Space:
    """Operations of a policy, and their strengths in equal bins from none to the strongest.

    Attributes:
        names: operations, in torchvision's order and names.
        shear: largest slope.
        translate: largest shift, as a share of the image's side in that direction; replaced by `translate_pixels` if it
            is not 0.
        rotate: largest angle in degrees.
        enhance: largest change of the factors of brightness, color, contrast and sharpness.
        first_bits: bits that the weakest posterization keeps.
        lost_bits: bits that the strongest posterization loses beyond these.
        num_bins: number of bins.
        translate_pixels: largest shift in pixels.
    """

    names: tuple[str, ...]
    shear: float
    translate: float
    rotate: float
    enhance: float
    first_bits: int
    lost_bits: int
    num_bins: int
    translate_pixels: float = 0.0

    def operations(
        self, names: NDArray[np.int64], bins: NDArray[np.int64], negative: NDArray[np.bool_], size: Sides
    ) -> Drawn:
        """Return the operations of B images.

        Args:
            names: [B], indices in `self.names`, or -1 for no operation.
            bins: [B], bin of the strength.
            negative: [B], whether the sign of the strength is negative, where it has a sign.
            size: height and width of the images.
        """
        kinds, values = _every_operation(self, size)
        return kinds[names], values[names, bins, negative.astype(np.intp)]

    def operation(self, name: str, strength: Numbers, signs: Numbers, size: Sides) -> tuple[Kind, Numbers]:
        """Return the kind of an operation and its values [n, ...] for strengths [n] in 0..1 with signs [n]."""
        zeros = np.zeros_like(strength)
        match name:
            case "ShearX":
                return Kind.AFFINE, warps.shear_x(strength * self.shear * signs)
            case "ShearY":
                return Kind.AFFINE, warps.shear_y(strength * self.shear * signs)
            case "TranslateX":
                return Kind.AFFINE, warps.translate(self._shift(strength * signs, size.width), zeros)
            case "TranslateY":
                return Kind.AFFINE, warps.translate(zeros, self._shift(strength * signs, size.height))
            case "Rotate":
                return Kind.AFFINE, warps.rotate(strength * self.rotate * signs, size)
            case "Posterize":
                return Kind.BITS, np.stack([np.round(self.first_bits - strength * self.lost_bits), zeros, zeros], 1)
            case "Solarize":
                return Kind.BITS, np.stack([zeros + 8, 255 * (1 - strength), zeros + 255], 1)
            case "AutoContrast":
                return Kind.AUTOCONTRAST, zeros[:, None]
            case "Equalize":
                return Kind.EQUALIZE, zeros[:, None]
            case "Invert":
                return Kind.BITS, np.stack([zeros + 8, zeros, zeros + 255], 1)
        factors = 1 + strength * self.enhance * signs
        if name == "Sharpness":
            return Kind.SHARPNESS, factors[:, None]
        return Kind.BLEND, np.stack([factors, zeros + (name == "Contrast"), zeros + (name == "Color")], 1)

    def _shift(self, strength: Numbers, side: int) -> Numbers:
        return np.trunc(strength * (self.translate_pixels or self.translate * side))


@lru_cache(maxsize=16)
def _every_operation(space: Space, size: Sides) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return kinds [names + 1] and values [names + 1, bins, 2, NUM_VALUES] of all operations, strengths and signs.

    The last row is no operation, which the index -1 finds.
    """
    kinds = np.zeros(len(space.names) + 1, dtype=np.int64)
    values = np.zeros((len(kinds), space.num_bins, 2, NUM_VALUES), dtype=np.float32)
    strength = np.repeat(np.arange(space.num_bins) / (space.num_bins - 1), 2)
    signs = np.tile([1.0, -1.0], space.num_bins)
    for index, name in enumerate(space.names):
        if name != "Identity":
            kinds[index], found = space.operation(name, strength, signs, size)
            values[index, :, :, : found.shape[1]] = found.reshape(space.num_bins, 2, -1)
    return kinds, values


_BASE = (*_SIGNED, *_UNSIGNED)
RAND_AUGMENT = Space(("Identity", *_BASE), 0.3, 150 / 331, 30, 0.9, 8, 4, 31)
TRIVIAL_AUGMENT = Space(("Identity", *_BASE), 0.99, 0, 135, 0.99, 8, 6, 31, translate_pixels=32)
AUTO_AUGMENT = Space((*_BASE, "Invert"), 0.3, 150 / 331, 30, 0.9, 8, 4, 10)
AUGMIX = Space(_BASE, 0.3, 1 / 3, 30, 0.9, 4, 4, 10)


def rand_augment(magnitude: int, numbers: Numbers, size: Sides) -> Drawn:
    """Return one of the operations of RandAugment per image, all with the same magnitude.

    Args:
        magnitude: bin of the strength, 0 to 30.
        numbers: [2, B], uniform in [0, 1).
        size: height and width of the images.
    """
    names = _choice(numbers[0], len(RAND_AUGMENT.names))
    return RAND_AUGMENT.operations(names, np.full(len(names), magnitude), numbers[1] < 0.5, size)


def trivial_augment(numbers: Numbers, size: Sides) -> Drawn:
    """Return one operation per image with a random strength; `numbers` are [3, B], uniform in [0, 1)."""
    space = TRIVIAL_AUGMENT
    names, bins = _choice(numbers[0], len(space.names)), _choice(numbers[1], space.num_bins)
    return space.operations(names, bins, numbers[2] < 0.5, size)


def auto_augment(policy: str, numbers: Numbers, size: Sides) -> tuple[Drawn, Drawn]:
    """Return the two operations of a random pair of a policy per image.

    Args:
        policy: imagenet, cifar10 or svhn.
        numbers: [5, B], uniform in [0, 1): pair, then per operation whether it is applied, and its sign.
        size: height and width of the images.
    """
    # The pairs and probabilities of the paper's appendix, as torchvision has them.
    from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy

    pairs = AutoAugment(AutoAugmentPolicy(policy))._policies
    chosen = _choice(numbers[0], len(pairs))
    steps = []
    for place in (0, 1):
        names = np.array([AUTO_AUGMENT.names.index(pair[place][0]) for pair in pairs])[chosen]
        probabilities = np.array([pair[place][1] for pair in pairs])[chosen]
        bins = np.array([pair[place][2] or 0 for pair in pairs])[chosen]
        names = np.where(numbers[1 + 2 * place] < probabilities, names, -1)
        steps.append(AUTO_AUGMENT.operations(names, bins, numbers[2 + 2 * place] < 0.5, size))
    return steps[0], steps[1]


AUGMIX_WIDTH = 3
AUGMIX_DEPTH = 3
NUM_AUGMIX_NUMBERS = AUGMIX_WIDTH * (1 + 3 * AUGMIX_DEPTH + 1) + 1


def augmix(severity: int, numbers: Numbers, size: Sides) -> tuple[list[list[Drawn]], NDArray[np.float32]]:
    """Return chains of one to three operations per image, and the weights of their mixture.

    Args:
        severity: number of bins from which strengths are drawn, 1 to 10.
        numbers: [NUM_AUGMIX_NUMBERS, B], uniform in [0, 1).
        size: height and width of the images.

    Returns:
        `AUGMIX_WIDTH` chains, and float32 [B, 1 + AUGMIX_WIDTH], the weights of the image itself and of the chains:
        from a beta and a Dirichlet distribution with all parameters 1.
    """
    rest = iter(numbers)
    chains = []
    for _ in range(AUGMIX_WIDTH):
        depth = _choice(next(rest), AUGMIX_DEPTH) + 1
        steps = []
        for place in range(AUGMIX_DEPTH):
            names = np.where(place < depth, _choice(next(rest), len(AUGMIX.names)), -1)
            bins = _choice(next(rest), severity)
            steps.append(AUGMIX.operations(names, bins, next(rest) < 0.5, size))
        chains.append(steps)
    exponential = -np.log1p(-np.stack([next(rest) for _ in range(AUGMIX_WIDTH)], axis=1))
    shares = exponential / np.maximum(exponential.sum(axis=1, keepdims=True), 1e-30)
    own = next(rest)[:, None]
    return chains, np.concatenate([own, (1 - own) * shares], axis=1).astype(np.float32)


def _choice(numbers: Numbers, count: int) -> NDArray[np.int64]:
    """Return integers 0 .. count - 1 from numbers in [0, 1)."""
    return (numbers * count).astype(np.int64)
