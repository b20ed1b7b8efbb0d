"""Additional transforms of training images: `data.transforms`, a list of `_target_`s.

Each image is transformed separately as a uint8 tensor [C, H, W], after the crop and resize and before the
normalization. The random numbers of a transform depend on the run's seed, the epoch and the sample, so that they are
the same after a resume and with another number of threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.config.targets import build
from convoy.data.augmentation.array_transforms import ArrayTransform
from convoy.data.datasets.user_code import user_code
from convoy.data.sampling.randomness import SampleRandomness, Stream, random_bits

if TYPE_CHECKING:
    from convoy.data.located.located_targets import LocatedTargets


class ImageTransforms:
    """The transforms of `data.transforms`, in order."""

    def __init__(self, data: DataConfig, seed: int) -> None:
        """Build the transforms.

        Args:
            data: the data config.
            seed: seed of the run.

        Raises:
            UserError: if a transform can't be built.
        """
        self._seed = seed
        self._transforms: list[tuple[str, str, Any]] = []
        for index, node in enumerate(data.transforms):
            key, name = f"data.transforms[{index}]", str(node["_target_"])
            with user_code(key, name):
                built = build(key, node)
                self._transforms.append((key, name, ArrayTransform(built) if ArrayTransform.is_for(built) else built))

    def __bool__(self) -> bool:
        return bool(self._transforms)

    def seeds(self, epoch: int, samples: Tensor) -> list[int]:
        """Return a seed for each of `samples`, int64 [B]."""
        seeds: list[int] = random_bits(self._seed, epoch, samples.cpu(), [Stream.TRANSFORMS])[0].tolist()
        return seeds

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        """Return an image, uint8 [C, H, W], transformed with the random numbers of `seed`. Thread-safe.

        Raises:
            UserError: if a transform fails or does not return such an image.
        """
        with SampleRandomness(seed):
            for index, (key, name, transform) in enumerate(self._transforms):
                with user_code(key, name):
                    is_of_arrays = isinstance(transform, ArrayTransform)
                    result = transform(image, seed + index) if is_of_arrays else transform(image)
                if not isinstance(result, Tensor) or result.dtype != torch.uint8 or result.shape != image.shape:
                    got = (
                        f"{result.dtype} {list(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
                    )
                    rule = f"{name} returns {got} for an image of torch.uint8 {list(image.shape)}"
                    remedy = "use transforms that keep type and size; data.image_size, mean and std set the rest"
                    raise UserError(Fault(key, rule, remedy))
                image = result
        return image

    def apply_to_pixels(self, pixels: NDArray[np.uint8], seed: int) -> None:
        """Transform an image in place, [H, W, C]."""
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        pixels[:] = self(image, seed).permute(1, 2, 0).numpy()

    def apply_to_located(
        self, located: LocatedTargets, pixels: NDArray[np.uint8], slot: NDArray[Any], seed: int
    ) -> None:
        """Transform an image, [H, W, C], and its target together, in place.

        Raises:
            UserError: if a transform fails, or can't move a target.
        """
        if not self._transforms:
            return
        from torchvision.transforms.v2 import Transform

        with SampleRandomness(seed):
            for key, name, transform in self._transforms:
                if not isinstance(transform, Transform):
                    rule = f"{name} moves pixels only, and this data has targets with positions in the image"
                    remedy = "use a transform of torchvision.transforms.v2, which moves images and targets together"
                    raise UserError(Fault(key, rule, remedy))
                with user_code(key, name):
                    located.transform(transform, pixels, slot)
