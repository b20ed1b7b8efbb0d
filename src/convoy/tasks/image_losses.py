"""Losses of images, [B, C, H, W] with values in 0..1, and their originals."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convoy.tasks.image_quality import structural_similarity


class CharbonnierLoss(nn.Module):
    """Charbonnier loss, a differentiable form of L1: sqrt(d^2 + epsilon^2) (Lai et al. 2017, arXiv:1704.03915).

    Args:
        epsilon: value of the loss where images are equal.
        reduction: `mean`, or `none` for the loss of each value.
    """

    def __init__(self, epsilon: float = 1e-3, reduction: str = "mean") -> None:
        super().__init__()
        self.epsilon, self.reduction = epsilon, reduction

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of images and originals."""
        losses = torch.sqrt((outputs - targets).square() + self.epsilon**2)
        return losses if self.reduction == "none" else losses.mean()


class SSIMLoss(nn.Module):
    """1 - SSIM, see `structural_similarity`; optionally mixed with L1 (Zhao et al. 2017, arXiv:1511.08861).

    Args:
        share: share of 1 - SSIM; the rest is L1, which keeps the mean color.
        reduction: `mean`, or `none` for the loss per image.
    """

    def __init__(self, share: float = 1.0, reduction: str = "mean") -> None:
        super().__init__()
        self.share, self.reduction = share, reduction

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of images and originals."""
        # In float32 also with automatic mixed precision: variances are differences of similar numbers.
        with torch.autocast(outputs.device.type, enabled=False):
            losses = self.share * (1 - structural_similarity(outputs.float(), targets.float(), peak=1.0))
        if self.share < 1:
            losses = losses + (1 - self.share) * (outputs - targets).abs().flatten(1).mean(1)
        return losses if self.reduction == "none" else losses.mean()
