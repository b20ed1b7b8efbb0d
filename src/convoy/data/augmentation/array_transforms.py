"""Transforms of Albumentations, which take arrays by name and have their random generators inside."""

from __future__ import annotations

import copy
import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor


class ArrayTransform:
    """Transform of Albumentations as a function of a tensor and a seed. Thread-safe: each thread has a copy.

    Args:
        transform: a transform or a `Compose` of Albumentations 2 or AlbumentationsX.
    """

    def __init__(self, transform: Any) -> None:
        self._transform = transform
        self._own = threading.local()

    @staticmethod
    def is_for(transform: object) -> bool:
        """Return whether an object is a transform of Albumentations."""
        return any(base.__module__.split(".")[0] == "albumentations" for base in type(transform).__mro__)

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        """Return an image, uint8 [C, H, W], transformed with the random numbers of a seed, any int."""
        if not hasattr(self._own, "transform"):
            self._own.transform = copy.deepcopy(self._transform)
        self._own.transform.set_random_seed(seed % 2**32)
        pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        found = np.asarray(self._own.transform(image=pixels)["image"])
        if found.ndim == 2:
            found = found[:, :, None]
        return torch.from_numpy(np.ascontiguousarray(found)).permute(2, 0, 1)
