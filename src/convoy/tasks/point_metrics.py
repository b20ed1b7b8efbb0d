"""Metrics of key points: distance, share of correct points, and object key point similarity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

USUAL_SIGMA = 0.05
"""Constant of a point in the similarity, as for large joints in COCO (0.079 for shoulders, 0.025 for eyes)."""


class PointErrors(Metric):
    """Root mean square of the distances of known points, in pixels of the image file, and the share of correct ones.

    Args:
        num_points: points per image.
        thresholds: largest distance of a correct point, as a share of the larger side of the box around the image's
            known points (PCK of Yang & Ramanan 2013).
    """

    full_state_update = False
    squares: Tensor
    correct: Tensor
    known: Tensor

    def __init__(self, num_points: int, thresholds: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("thresholds", torch.tensor(list(thresholds)), persistent=False)
        self.add_state("squares", torch.zeros(num_points, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("correct", torch.zeros(num_points, len(thresholds)), dist_reduce_fx="sum")
        self.add_state("known", torch.zeros(num_points), dist_reduce_fx="sum")

    def update(self, points: Tensor, targets: Tensor) -> None:
        """Count a batch.

        Args:
            points: predicted x and y in pixels of the input, [B, points, 2].
            targets: [B, points, 4], see `convoy.data.targets`.
        """
        known = targets[..., 2] > 0
        distances = (points - targets[..., :2]).norm(dim=-1)
        in_file = torch.where(known, distances * targets[..., 3], 0.0)
        self.squares += (in_file.double() ** 2).sum(0)
        lengths = box_sides(targets).amax(1)
        is_correct = (distances[..., None] <= self.thresholds * lengths[:, None, None]) & known[..., None]  # type: ignore[operator]
        self.correct += is_correct.sum(0)
        self.known += known.sum(0)

    def compute(self) -> Tensor:
        """Return the root mean square distance in pixels, a scalar; NaN without known points."""
        return (self.squares.sum() / self.known.sum()).sqrt().float()

    def rmse_per_point(self) -> Tensor:
        """Return the root mean square distance of each point, [points]; NaN for points that are never known."""
        return (self.squares / self.known).sqrt().float()

    def pck(self) -> Tensor:
        """Return the share of correct points at each threshold, over all points."""
        return self.correct.sum(0) / self.known.sum()


class CorrectPoints(PointErrors):
    """Share of correct points (PCK) at one threshold.

    Args:
        num_points: points per image.
        threshold: see `PointErrors`.
    """

    def __init__(self, num_points: int, threshold: float) -> None:
        super().__init__(num_points, [threshold])

    def compute(self) -> Tensor:
        """Return the share, a scalar."""
        return self.pck()[0]


class SimilarityAP(Metric):
    """Average precision by object key point similarity (OKS), with one object per image.

    The mean over the thresholds 0.5, 0.55, …, 0.95, each interpolated at 101 recalls, as COCO's evaluation
    (cocodataset.org, "Keypoint evaluation"). The area of an object is that of the box around its known points.

    Args:
        sigmas: constant of each point.
    """

    full_state_update = False
    similarities: list[Tensor]
    scores: list[Tensor]

    def __init__(self, sigmas: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("sigmas", torch.tensor(list(sigmas)), persistent=False)
        self.add_state("similarities", [], dist_reduce_fx="cat")
        self.add_state("scores", [], dist_reduce_fx="cat")

    def update(self, points: Tensor, targets: Tensor, scores: Tensor) -> None:
        """Count a batch.

        Args:
            points: see `PointErrors.update`.
            targets: see `PointErrors.update`.
            scores: confidence of each image's points, [B].
        """
        known = targets[..., 2] > 0
        is_counted = known.any(1)
        areas = box_sides(targets).prod(1).clamp_min(torch.finfo(torch.float32).eps)
        squares = ((points - targets[..., :2]) ** 2).sum(-1)
        exponents = squares / (2 * areas[:, None] * (2 * self.sigmas) ** 2)  # type: ignore[operator]
        similarity = (torch.exp(-exponents) * known).sum(1) / known.sum(1).clamp_min(1)
        self.similarities.append(torch.where(is_counted, similarity, -1.0))
        self.scores.append(scores)

    def compute(self) -> Tensor:
        """Return the average precision, a scalar; NaN without known points."""
        similarities, scores = _joined(self.similarities), _joined(self.scores)
        counted = similarities >= 0
        order = scores[counted].argsort(descending=True, stable=True)
        ordered = similarities[counted][order]
        if not len(ordered):
            return torch.tensor(torch.nan)
        recalls = torch.linspace(0, 1, 101, dtype=torch.float64, device=ordered.device)
        precisions = []
        for threshold in torch.arange(0.5, 0.96, 0.05).tolist():
            hits = (ordered >= threshold).double().cumsum(0)
            recall = hits / len(ordered)
            precision = hits / torch.arange(1, len(hits) + 1, device=hits.device)
            best = precision.flip(0).cummax(0).values.flip(0)
            places = torch.searchsorted(recall, recalls)
            reached = torch.cat([best, best.new_zeros(1)])[places]
            precisions.append(reached.mean())
        return torch.stack(precisions).mean().float()


def box_sides(targets: Tensor) -> Tensor:
    """Return width and height of the box around the known points of each image, [B, 2]."""
    known = (targets[..., 2:3] > 0).expand(-1, -1, 2)
    largest = torch.where(known, targets[..., :2], -torch.inf).amax(1)
    smallest = torch.where(known, targets[..., :2], torch.inf).amin(1)
    return (largest - smallest).clamp_min(0)


def _joined(parts: list[Tensor] | Tensor) -> Tensor:
    if isinstance(parts, Tensor):
        return parts
    return torch.cat(parts) if parts else torch.zeros(0)
