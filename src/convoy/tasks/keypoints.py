"""Key points: the positions of named points in an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchmetrics import MetricCollection

from convoy.config.faults import Fault, UserError
from convoy.config.image_size import ImageSize, Sides, sides_of
from convoy.data.batches.collate import Batch
from convoy.data.located.pictures import with_points
from convoy.data.located.placement import Placement
from convoy.data.located.points import known_points
from convoy.data.targets import Targets
from convoy.models.auxiliary import logits_of
from convoy.tasks.heatmaps import Decoded, decoded, heatmaps
from convoy.tasks.losses import ConfiguredLoss
from convoy.tasks.mean_loss import MeanLoss
from convoy.tasks.point_metrics import USUAL_SIGMA, CorrectPoints, PointErrors, SimilarityAP
from convoy.tasks.task import Task
from convoy.tasks.task_report import Report, ReportTable

CURVE = tuple(round(0.02 * step, 2) for step in range(1, 26))
"""Thresholds of the curve of correct points, 0.02 to 0.5."""


class Keypoints(Task):
    """Task with the positions of points as targets.

    The network returns heatmaps [B, points, h, w] with one map per point (Tompson et al. 2014), or coordinates
    [B, 2 * points]: x and y of the first point, then of the second, from 0 at the left and upper edge of the image to 1
    at the right and lower one. A network that returns a tuple of heatmaps in training, one per stage (stacked hourglass
    networks), is trained on all of them. Unknown points have no loss.

    Logs `rmse`, the root mean square distance in pixels of the image files, `pck`, the share of points that are closer
    than `pck_threshold` times the larger side of the box around the image's points, and `oks`, the average precision by
    object key point similarity.

    Args:
        targets: names of the points.
        loss: of heatmaps, or of coordinates divided by the size of the image.
        output: heatmaps or coordinates.
        sigma: standard deviation of the Gaussian of a point, in pixels of the heatmaps.
        pck_threshold: see above.
        oks_sigmas: constant of each point in the similarity; None for 0.05 each.
        image_size: size of the network's input.

    Raises:
        UserError: `oks_sigmas` has another number of values than there are points.
    """

    titles = {"rmse": "RMSE", "pck": "PCK", "oks": "OKS AP"}  # noqa: RUF012
    severity_text = "Largest distances first."
    report_metrics = frozenset({"points"})

    def __init__(
        self,
        targets: Targets,
        loss: ConfiguredLoss,
        image_size: ImageSize,
        output: Literal["heatmaps", "coordinates"] = "heatmaps",
        sigma: float = 2.0,
        pck_threshold: float = 0.1,
        oks_sigmas: Sequence[float] | None = None,
    ) -> None:
        super().__init__(targets, loss)
        if output not in ("heatmaps", "coordinates"):
            raise UserError(Fault("task.output", "must be heatmaps or coordinates", "", str(output)))
        if not sigma > 0:
            raise UserError(Fault("task.sigma", "must be more than 0", "2 is usual", str(sigma)))
        count = len(targets.names)
        if oks_sigmas is not None and len(oks_sigmas) != count:
            rule = f"must have one number per point ({count})"
            raise UserError(Fault("task.oks_sigmas", rule, "write null for 0.05 each", str(list(oks_sigmas))))
        self._output = output
        self._size = sides_of(image_size)
        self._sigma, self._pck_threshold = sigma, pck_threshold
        self._oks_sigmas = [USUAL_SIGMA] * count if oks_sigmas is None else [float(one) for one in oks_sigmas]

    def training_losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        last, others = logits_of(network(batch.images))
        losses = {"points": self.loss(*self._compared(last, batch.targets))}
        for number, maps in enumerate(others, 1):
            losses[f"stage_{number}"] = self.loss(*self._compared(maps, batch.targets))
        return losses

    def _compared(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs and what they should be, both 0 for unknown points."""
        known = targets[..., 2] > 0
        if self._output == "coordinates":
            wanted = (targets[..., :2] + 0.5) / self._edges(targets)
            is_known = known[..., None].expand(-1, -1, 2).flatten(1)
            return torch.where(is_known, outputs, 0.0), torch.where(is_known, wanted.flatten(1), 0.0)
        maps = heatmaps(targets[..., :2], Sides(*outputs.shape[2:]), self._size, self._sigma)
        is_known = known[..., None, None]
        return torch.where(is_known, outputs, 0.0), torch.where(is_known, maps, 0.0)

    def _edges(self, like: Tensor) -> Tensor:
        return like.new_tensor([self._size.width, self._size.height])

    def located(self, outputs: Tensor) -> Decoded:
        """Return the positions in outputs, in pixels of the network's input; coordinates have the score 1."""
        if self._output == "heatmaps":
            return decoded(outputs, self._size)
        points = outputs.reshape(len(outputs), -1, 2) * self._edges(outputs) - 0.5
        return Decoded(points, torch.ones_like(points[..., 0]))

    def metrics(self, split: str) -> MetricCollection:
        count = len(self.targets.names)
        found: dict[str, Any] = {
            "loss": MeanLoss(),
            "rmse": PointErrors(count, []),
            "pck": CorrectPoints(count, self._pck_threshold),
            "oks": SimilarityAP(self._oks_sigmas),
        }
        if split == "test":
            found["points"] = PointErrors(count, CURVE)
        return MetricCollection(found, compute_groups=False)

    def update_metrics(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> None:
        points, scores = self.located(outputs)
        losses = self.loss.per_sample(*self._compared(outputs, targets))
        for metric in metrics.values():
            if isinstance(metric, MeanLoss):
                metric.update(losses, len(targets))
            elif isinstance(metric, SimilarityAP):
                metric.update(points, targets, scores.mean(1))
            else:
                metric.update(points, targets)

    def report(self, metrics: MetricCollection) -> Report:
        """Return the distance of each point, and the share of correct points by threshold."""
        if "points" not in metrics:
            return Report()
        errors = metrics["points"]
        assert isinstance(errors, PointErrors)
        distances = [None if value != value else value for value in errors.rmse_per_point().tolist()]
        rows = tuple(zip(CURVE, errors.pck().tolist(), strict=True))
        return Report(
            {"rmse_per_point": dict(zip(self.targets.names, distances, strict=True))},
            {"pck": ReportTable(("threshold", "share of correct points"), rows)},
        )

    def severity(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean distance of the known points of each image in pixels of its file, [N]."""
        known = targets[..., 2] > 0
        distances = (self.located(outputs).points - targets[..., :2]).norm(dim=-1) * targets[..., 3]
        return torch.where(known, distances, 0.0).sum(1) / known.sum(1).clamp_min(1)

    def target_texts(self, targets: Tensor) -> list[str]:
        """Return the known points of each image, in pixels of the network's input."""
        return [
            ", ".join(
                f"{name} {x:.0f},{y:.0f}"
                for name, (x, y, known, _) in zip(self.targets.names, points, strict=True)
                if known
            )
            for points in targets.tolist()
        ]

    def predictions(self, outputs: Tensor, limit: int) -> list[dict[str, Any]]:
        """Return x, y and score of each point, in pixels of the network's input."""
        found = self.located(outputs)
        return [
            {
                "points": {
                    name: {"x": x, "y": y, "score": score}
                    for name, (x, y), score in zip(self.targets.names, points, scores, strict=True)
                }
            }
            for points, scores in zip(found.points.tolist(), found.scores.tolist(), strict=True)
        ]

    def in_file(self, record: Mapping[str, Any], placement: Placement) -> dict[str, Any]:
        names, points = list(record["points"]), record["points"].values()
        moved = placement.source_points(np.array([[point["x"], point["y"]] for point in points], dtype=np.float32))
        return {
            "points": {
                name: {"x": x, "y": y, "score": point["score"]}
                for name, point, (x, y) in zip(names, points, moved.tolist(), strict=True)
            }
        }

    def drawn(self, image: Image.Image, record: Mapping[str, Any], picture: Image.Image | None) -> Image.Image:
        points = record["points"].values()
        return with_points(image, [(point["x"], point["y"]) for point in points], len(points))

    def drawn_target(self, image: Image.Image, target: Tensor) -> Image.Image:
        return with_points(image, known_points(target), len(target))

    def prediction_rows(self, record: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [(name, f"{point['x']:.1f}, {point['y']:.1f}") for name, point in record["points"].items()]

    def example_targets(self, num_images: int, image_size: ImageSize) -> Tensor:
        return torch.ones(num_images, len(self.targets.names), 4)

    @property
    def num_outputs(self) -> int:
        """One heatmap, or x and y, per point."""
        return (2 if self._output == "coordinates" else 1) * len(self.targets.names)

    def output_fault(self, outputs: Any, images: Tensor) -> str | None:
        """Return the reason why outputs are neither heatmaps nor coordinates as configured."""
        num_images, count = len(images), len(self.targets.names)
        shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        if self._output == "coordinates":
            if shape == (num_images, self.num_outputs):
                return None
            expected = num_images, self.num_outputs
            hint = f"x and y of each point, for which the network is built with num_classes={self.num_outputs}"
            return f"returns {shape}; task.output=coordinates expects {expected}, {hint}"
        if isinstance(shape, tuple) and len(shape) == 4 and shape[:2] == (num_images, count):
            return None
        hint = (
            "model=simple_baseline returns them, and a network with one output per image needs task.output=coordinates"
        )
        return f"returns {shape}; task.output=heatmaps expects ({num_images}, {count}, height, width): {hint}"
