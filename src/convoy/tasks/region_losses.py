"""Losses of the overlap between predicted and true regions, of logits and masks."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from convoy.data.targets import IGNORED


class RegionLoss(nn.Module, ABC):
    """Mean over the classes that occur of a loss of their regions.

    In training, the images of a micro batch count as one image. With the reduction `none`, each image is one.

    Args:
        reduction: `mean` for a scalar, or `none` for one value per image.
        ignore_index: target that is not counted.
    """

    def __init__(self, reduction: str = "mean", ignore_index: int = IGNORED) -> None:
        super().__init__()
        self.reduction, self.ignore_index = reduction, ignore_index

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of logits [B, num_classes, ...] and class indices [B, ...]."""
        is_counted = targets != self.ignore_index
        probabilities = torch.softmax(outputs.float(), 1) * is_counted[:, None]
        indices = torch.where(is_counted, targets, 0)[:, None]
        truth = torch.zeros_like(probabilities).scatter_(1, indices, 1.0) * is_counted[:, None]
        if self.reduction == "none":
            probabilities, truth = probabilities.flatten(2), truth.flatten(2)
        else:
            probabilities = probabilities.transpose(0, 1).flatten(1)[None]
            truth = truth.transpose(0, 1).flatten(1)[None]
        is_present = truth.sum(2) > 0
        losses = (self.of_regions(probabilities, truth) * is_present).sum(1) / is_present.sum(1).clamp(min=1)
        return losses if self.reduction == "none" else losses[0]

    @abstractmethod
    def of_regions(self, probabilities: Tensor, truth: Tensor) -> Tensor:
        """Return the loss of each class, [N, num_classes]; that of a class that does not occur is not used.

        Args:
            probabilities: [N, num_classes, pixels], 0 where a pixel is not counted.
            truth: 1 for the class of each pixel, likewise.
        """


class DiceLoss(RegionLoss):
    """1 - Dice coefficient, with probabilities in place of decisions (Milletari et al. 2016, arXiv:1606.04797)."""

    def of_regions(self, probabilities: Tensor, truth: Tensor) -> Tensor:
        both = (probabilities * truth).sum(2)
        return 1 - 2 * both / (probabilities.sum(2) + truth.sum(2)).clamp(min=1)


class JaccardLoss(RegionLoss):
    """1 - intersection over union, with probabilities in place of decisions (Rahman & Wang 2016)."""

    def of_regions(self, probabilities: Tensor, truth: Tensor) -> Tensor:
        both = (probabilities * truth).sum(2)
        return 1 - both / (probabilities.sum(2) + truth.sum(2) - both).clamp(min=1)


class LovaszLoss(RegionLoss):
    """Lovász-Softmax loss of Berman et al. 2017 (arXiv:1705.08790): a convex extension of the Jaccard loss."""

    def of_regions(self, probabilities: Tensor, truth: Tensor) -> Tensor:
        # Pixels that are not counted have no error and come last, where they multiply nothing.
        errors, order = (truth - probabilities).abs().sort(2, descending=True)
        ordered = truth.gather(2, order)
        size = truth.sum(2, keepdim=True)
        intersection = size - ordered.cumsum(2)
        union = size + (1 - ordered).cumsum(2)
        jaccard = 1 - intersection / union
        steps = functional.pad(jaccard, (1, 0)).diff(dim=2)
        return (errors * steps).sum(2)
