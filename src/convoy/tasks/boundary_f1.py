"""Agreement of the boundaries of predicted and true regions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric

from convoy.data.targets import IGNORED


class BoundaryF1(Metric):
    """Boundary F1 score of Csurka et al. 2013 ("What is a good evaluation measure for semantic segmentation?").

    Precision is the share of the predicted boundary within a distance of the true one, recall the share of the true
    boundary within it of the predicted one. The F1 score of a class in an image is averaged over the images that have
    the class in target or prediction, and then over classes. Pixels that are not counted belong to no region.

    Args:
        num_classes: number of classes.
        tolerance: the distance as a share of the image's diagonal.
    """

    full_state_update = False
    scores: Tensor
    images: Tensor

    def __init__(self, num_classes: int, tolerance: float = 0.0075) -> None:
        super().__init__()
        self.num_classes, self.tolerance = num_classes, tolerance
        self.add_state("scores", torch.zeros(num_classes), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(num_classes), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Count a batch.

        Args:
            outputs: logits [B, num_classes, H, W].
            targets: class indices [B, H, W], or `IGNORED`.
        """
        is_counted = targets != IGNORED
        classes = torch.arange(self.num_classes, device=targets.device)[:, None, None]
        truth = ((targets[:, None] == classes) & is_counted[:, None]).float()
        predicted = ((outputs.argmax(1)[:, None] == classes) & is_counted[:, None]).float()
        near = _disc(self.tolerance * math.hypot(*targets.shape[-2:]), outputs.device)
        true_line, predicted_line = _boundary(truth), _boundary(predicted)
        precision = _share(predicted_line, _within(true_line, near))
        recall = _share(true_line, _within(predicted_line, near))
        is_present = ((truth + predicted).flatten(2).sum(2) > 0).float()
        score = torch.nan_to_num(2 * precision * recall / (precision + recall))
        self.scores += (score * is_present).sum(0)
        self.images += is_present.sum(0)

    def compute(self) -> Tensor:
        """Return the mean over the classes, a scalar; NaN without pixels."""
        return (self.scores / self.images).nanmean()


def _boundary(regions: Tensor) -> Tensor:
    """Return the pixels of regions [B, C, H, W], 0 or 1, with one of the four neighbours outside of the region.

    The border of the image is no boundary.
    """
    outside = functional.pad(1 - regions, (1, 1, 1, 1), mode="replicate")
    vertical = torch.maximum(outside[..., :-2, 1:-1], outside[..., 2:, 1:-1])
    horizontal = torch.maximum(outside[..., 1:-1, :-2], outside[..., 1:-1, 2:])
    return regions * torch.maximum(vertical, horizontal)


def _disc(radius: float, device: torch.device) -> Tensor:
    """Return the positions within a distance of the middle, [1, 1, F, F], 0 or 1."""
    reach = int(radius)
    line = torch.arange(-reach, reach + 1, device=device, dtype=torch.float32)
    return (line[:, None] ** 2 + line**2 <= radius**2).float()[None, None]


def _within(lines: Tensor, disc: Tensor) -> Tensor:
    """Return the pixels within the disc's radius of a pixel of the lines, [B, C, H, W], 0 or 1."""
    spread = functional.conv2d(lines.flatten(0, 1)[:, None], disc, padding=disc.shape[-1] // 2)
    return (spread[:, 0] > 0.5).float().view(lines.shape)


def _share(lines: Tensor, near: Tensor) -> Tensor:
    """Return the share of lines that is near, [B, C]; 1 without lines, if there is a region all over the image."""
    return ((lines * near).flatten(2).sum(2) + 1e-9) / (lines.flatten(2).sum(2) + 1e-9)
