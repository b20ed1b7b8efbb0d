"""Semantic segmentation: one class per pixel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MetricCollection

from convoy.config.faults import Fault, UserError
from convoy.config.image_size import ImageSize, Sides, sides_of, sides_or_none
from convoy.data.batches.collate import Batch
from convoy.data.located.pictures import blended, map_picture, with_mask
from convoy.data.located.placement import Placement
from convoy.data.targets import IGNORED, Targets
from convoy.models import auxiliary
from convoy.tasks.losses import ConfiguredLoss
from convoy.tasks.mean_loss import MeanLoss, count_batch, losses_per_sample
from convoy.tasks.pixel_confusion import PixelConfusion, dice_coefficients, intersections_over_unions, recalls
from convoy.tasks.sliding_windows import by_windows
from convoy.tasks.task import Task
from convoy.tasks.task_report import Report, ReportTable

_SMALLEST_PROBABILITY = 1e-300
_PIXELS = "pixels"
_SCORES = ("miou", "pixel_accuracy", "dice")


class Segmentation(Task):
    """Task with one class index per pixel; the network returns logits [B, num_classes, H, W].

    Logs `miou` and `dice`, means over the classes that targets or predictions have, and `pixel_accuracy`. Pixels with
    the target `IGNORED` are not counted. Auxiliary classifiers, which return a tuple in training, contribute
    `auxiliary_weight` times their loss each.

    Args:
        targets: class names.
        loss: of logits and class indices [B, H, W].
        auxiliary_weight: weight of each auxiliary loss.
        window: side or [height, width] of the windows by which larger images are evaluated, with the mean of the logits
            where windows overlap; None to evaluate whole images.
        window_overlap: share of a window that the next one repeats.

    Raises:
        UserError: a setting of the windows is out of range.
    """

    titles = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy", "dice": "Dice"}  # noqa: RUF012
    severity_text = "Images with the largest share of wrong pixels first."
    report_metrics = frozenset({_PIXELS})

    def __init__(
        self,
        targets: Targets,
        loss: ConfiguredLoss,
        auxiliary_weight: float = auxiliary.WEIGHT,
        window: ImageSize | None = None,
        window_overlap: float = 0.5,
    ) -> None:
        super().__init__(targets, loss)
        self.auxiliary_weight = auxiliary_weight
        self._window = None if window is None else sides_or_none(window)
        if window is not None and (self._window is None or self._window.shorter < 1):
            rule = "must be a number of pixels, or [height,width]"
            raise UserError(Fault("task.window", rule, "write the size of the training images", str(window)))
        if not 0 <= window_overlap < 1:
            rule = "must be at least 0 and below 1"
            raise UserError(Fault("task.window_overlap", rule, "0.5 is usual", str(window_overlap)))
        self._overlap = window_overlap

    def outputs(self, network: Callable[[Tensor], Any], images: Tensor) -> Any:
        """Return the logits for evaluation, in float32, of windows if they are configured."""
        if self._window is None:
            return super().outputs(network, images)
        return by_windows(network, images, self._window, self._overlap)

    def training_losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logits, side_logits = auxiliary.logits_of(network(batch.images))
        losses = {"pixels": self.loss(logits, batch.targets)}
        for number, side in enumerate(side_logits, 1):
            losses[f"auxiliary_{number}"] = self.auxiliary_weight * self.loss(side, batch.targets)
        self.log("pixel_accuracy", (1 - self.severity(logits.detach(), batch.targets)).sum())
        return losses

    def uninformed_loss(self, device: torch.device) -> float:
        """Return the loss of equal logits, over pixels of all classes."""
        num_classes = len(self.targets.names)
        logits = torch.zeros(1, num_classes, 1, num_classes, device=device)
        return float(self.loss(logits, torch.arange(num_classes, device=device)[None, None]))

    def example_targets(self, num_images: int, image_size: ImageSize) -> Tensor:
        return torch.zeros(num_images, *sides_of(image_size), dtype=torch.int64)

    def metrics(self, split: str) -> MetricCollection:
        found: dict[str, Any] = {"loss": MeanLoss(), _PIXELS: PixelConfusion(len(self.targets.names))}
        return MetricCollection(found, compute_groups=False)

    def update_metrics(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> None:
        losses = losses_per_sample(self.loss.per_sample(outputs, targets), targets)
        # An image counts by its share of counted pixels, so that the mean over images is that over pixels.
        shares = (targets != IGNORED).flatten(1).float().mean(1)
        count_batch(metrics, losses, shares, outputs, targets)

    def compute(self, metrics: MetricCollection) -> dict[str, float]:
        values = super().compute(metrics)
        matrix = metrics[_PIXELS].compute()
        scores = {
            "miou": intersections_over_unions(matrix).nanmean(),
            "pixel_accuracy": matrix.diagonal().sum() / matrix.sum(),
            "dice": dice_coefficients(matrix).nanmean(),
        }
        return {"loss": values["loss"], **{name: float(value) for name, value in scores.items()}, **values}

    def metric_names(self) -> tuple[str, ...]:
        return (*super().metric_names(), *_SCORES)

    def report(self, metrics: MetricCollection) -> Report:
        """Return the scores per class (None for a class without pixels) and the confusion matrix of the pixels."""
        matrix = metrics[_PIXELS].compute().cpu()
        names = self.targets.names
        unions = _numbers(intersections_over_unions(matrix))
        columns = (
            names,
            unions,
            _numbers(dice_coefficients(matrix)),
            _numbers(recalls(matrix)),
            matrix.sum(1).tolist(),
        )
        rows = tuple(zip(*columns, strict=True))
        scores = ReportTable(("class", "IoU", "Dice", "recall", "pixels"), rows)
        counts = tuple((name, *row) for name, row in zip(names, matrix.tolist(), strict=True))
        confusion = ReportTable(("true \\ predicted", *names), counts, kind="matrix")
        tables = {"classes": scores, "confusion_matrix": confusion}
        return Report({"iou_per_class": dict(zip(names, unions, strict=True))}, tables)

    def output_fault(self, outputs: Any, images: Tensor) -> str | None:
        expected = (len(images), len(self.targets.names), *images.shape[-2:])
        if not isinstance(outputs, Tensor):
            return f"returns {type(outputs).__name__}; the task expects a tensor of shape {expected}"
        if tuple(outputs.shape) != expected:
            wanted = f"{expected}, logits of each pixel, as model=unet returns"
            return f"returns shape {tuple(outputs.shape)}; the task expects {wanted}"
        return None

    def to_average(self, outputs: Tensor) -> Tensor:
        """Return the probabilities [N, num_classes, H, W]."""
        return torch.softmax(outputs.double(), 1)

    @property
    def views(self) -> tuple[str, ...]:
        return ("flip", "multiscale")

    def restored(self, averaged: Tensor, images: Tensor, *, is_mirrored: bool) -> Tensor:
        maps = averaged.flip(-1) if is_mirrored else averaged
        size = images.shape[-2:]
        return maps if maps.shape[-2:] == size else functional.interpolate(maps, size=size, mode="bilinear")

    def from_average(self, averaged: Tensor) -> Tensor:
        """Return log probabilities, which are logits of the same probabilities."""
        return averaged.clamp_min(_SMALLEST_PROBABILITY).log()

    def likelihoods(self, averaged: Tensor, targets: Tensor) -> Tensor:
        is_counted = targets != IGNORED
        indices = torch.where(is_counted, targets, 0)[None, :, None].expand(len(averaged), -1, -1, -1, -1)
        return averaged.gather(2, indices)[:, :, 0][:, is_counted].clamp_min(_SMALLEST_PROBABILITY)

    def evidence(self, outputs: Tensor) -> Tensor:
        """Return the mean over the pixels of the largest logit of each, [N]."""
        return outputs.max(1).values.flatten(1).mean(1)

    def severity(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the share of each image's counted pixels that is wrong, [N]."""
        is_wrong = (outputs.argmax(1) != targets) & (targets != IGNORED)
        return is_wrong.flatten(1).sum(1) / (targets != IGNORED).flatten(1).sum(1).clamp(min=1)

    def decisions(self, outputs: Tensor) -> Tensor:
        """Return the most probable class of each pixel, [N, H, W]."""
        return outputs.argmax(1)

    def target_texts(self, targets: Tensor) -> list[str]:
        """Return the classes of each image, the largest first."""
        return [
            ", ".join(self.targets.names[index] for index, share in _largest(row) if share) or "–"
            for row in self._shares(targets)
        ]

    def predictions(self, outputs: Tensor, limit: int) -> list[dict[str, Any]]:
        """Return the classes of each image with their shares of its pixels, the largest first."""
        return [
            {"classes": [{"class": self.targets.names[i], "share": v} for i, v in _largest(row)[:limit] if v]}
            for row in self._shares(self.decisions(outputs))
        ]

    def picture(self, outputs: Tensor, placement: Placement, size: Sides) -> Image.Image:
        """Return the most probable class of each pixel of the file, an image with a palette."""
        shown = outputs[:, :, : placement.size.height, : placement.size.width]
        logits = functional.interpolate(shown, size=size, mode="bilinear", align_corners=False)
        return map_picture(logits.argmax(1)[0].to(torch.uint8).cpu().numpy(), len(self.targets.names))

    def drawn(self, image: Image.Image, record: Mapping[str, Any], picture: Image.Image | None) -> Image.Image | None:
        return None if picture is None else blended(image, picture)

    def drawn_target(self, image: Image.Image, target: Tensor) -> Image.Image:
        return with_mask(image, target.numpy().astype(np.uint8), len(self.targets.names))

    def prediction_rows(self, record: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [(one["class"], f"{one['share']:.2%}") for one in record["classes"]]

    def _shares(self, indices: Tensor) -> list[list[float]]:
        """Return the share of each class in the counted pixels of each image."""
        counts = torch.stack([(indices == index).flatten(1).sum(1) for index in range(len(self.targets.names))], 1)
        shares: list[list[float]] = (counts.double() / counts.sum(1, keepdim=True).clamp(min=1)).tolist()
        return shares


def _largest(shares: list[float]) -> list[tuple[int, float]]:
    return sorted(enumerate(shares), key=lambda pair: -pair[1])


def _numbers(values: Tensor) -> list[float | None]:
    return [None if value != value else value for value in values.tolist()]
