"""Speckle noise."""

import torch
from torch import Tensor


class Speckle:
    """Multiplies each pixel by a random factor around 1."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def __call__(self, image: Tensor) -> Tensor:
        """Return a noisy image. Both are uint8 [C, H, W]; Convoy seeds torch's random functions for each image."""
        factor = 1 + self.strength * torch.randn(image.shape)
        return (image * factor).round().clamp(0, 255).to(torch.uint8)
