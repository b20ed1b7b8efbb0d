"""Image to image: super-resolution, denoising, colorization and other restoration."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchmetrics import MetricCollection

from convoy.config.faults import Fault, UserError
from convoy.config.image_size import ImageSize, Sides, sides_of
from convoy.data.batches.collate import Batch
from convoy.data.located.placement import Placement
from convoy.data.targets import Targets
from convoy.tasks.image_quality import (
    MeanQuality,
    levels,
    peak_signal_to_noise_ratio,
    structural_similarity,
)
from convoy.tasks.losses import ConfiguredLoss
from convoy.tasks.mean_loss import MeanLoss, count_batch
from convoy.tasks.task import Task

COLORS = ("y", "rgb")


class ImageToImage(Task):
    """Task with an image as the target of each image; the network returns [B, channels, scale H, scale W] in 0..1.

    Logs `psnr` in decibels and `ssim`, the means over images, on values that are rounded to 256 levels.

    Args:
        targets: names of the channels: gray, or red, green and blue.
        loss: of outputs and targets, both [B, channels, scale H, scale W].
        scale: factor by which the originals were reduced.
        is_enlarged: whether the images were enlarged afterwards, so that outputs have their size.
        color: what is measured: y (luma of ITU-R BT.601, 16 to 235) or rgb (all channels).
        crop_border: pixels per side that are not measured; None for `scale`, or 0 where it is 1.

    Raises:
        UserError: there is no such color.
    """

    titles = {"psnr": "PSNR", "ssim": "SSIM"}  # noqa: RUF012
    severity_text = "Lowest PSNR first."

    def __init__(
        self,
        targets: Targets,
        loss: ConfiguredLoss,
        scale: int = 1,
        is_enlarged: bool = False,
        color: str = "y",
        crop_border: int | None = None,
    ) -> None:
        super().__init__(targets, loss)
        if color not in COLORS:
            raise UserError(Fault("task.color", "no such color", f"choose from {', '.join(COLORS)}", color))
        self._scale = 1 if is_enlarged else scale
        usual = scale if scale > 1 else 0
        self._color, self._border = color, usual if crop_border is None else crop_border

    def training_losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        outputs = network(batch.images)
        self.log("psnr", self._psnr(outputs.detach(), batch.targets).sum())
        return {"image": self.loss(outputs, batch.targets)}

    def metrics(self, split: str) -> MetricCollection:
        quality = partial(MeanQuality, color=self._color, border=self._border)
        found: dict[str, Any] = {
            "loss": MeanLoss(),
            "psnr": quality(peak_signal_to_noise_ratio),
            "ssim": quality(structural_similarity),
        }
        return MetricCollection(found, compute_groups=False)

    def update_metrics(self, metrics: MetricCollection, outputs: Tensor, targets: Tensor) -> None:
        losses = self.loss.per_sample(outputs, targets)
        count_batch(metrics, losses, len(targets), outputs, targets)

    def output_fault(self, outputs: Any, images: Tensor) -> str | None:
        size = [self._scale * side for side in images.shape[2:]]
        expected = (len(images), len(self.targets.names), *size)
        if not isinstance(outputs, Tensor):
            return f"returns {type(outputs).__name__}; the task expects a tensor of shape {expected}"
        if outputs.ndim != 4:
            return f"returns shape {tuple(outputs.shape)}; the task expects an image {expected}, as model=espcn returns"
        if tuple(outputs.shape) != expected:
            reason = f"returns shape {tuple(outputs.shape)} for {tuple(images.shape)}; the task expects {expected}"
            keeps_size = self._scale > 1 and outputs.shape[2:] == images.shape[2:]
            enlarged = "an enlarged input (data.degradation.enlarge=true with data=super_resolution)"
            return f"{reason}, or {enlarged}" if keeps_size else reason
        return None

    def example_targets(self, num_images: int, image_size: ImageSize) -> Tensor:
        size = [self._scale * side for side in sides_of(image_size)]
        return torch.zeros(num_images, len(self.targets.names), *size)

    def severity(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the root of the mean squared error of each image, in gray levels: the larger, the lower its PSNR."""
        errors = levels(outputs, self._color, self._border) - levels(targets, self._color, self._border)
        return errors.square().flatten(1).mean(1).sqrt()

    def target_texts(self, targets: Tensor) -> list[str]:
        """Return the size of each image."""
        return [f"{width}x{height}" for height, width in [targets.shape[2:]] * len(targets)]

    def predictions(self, outputs: Tensor, limit: int) -> list[dict[str, Any]]:
        """Return size and mean value of each image by channel; the pixels are not part of the records."""
        height, width = outputs.shape[2:]
        means = outputs.clamp(0, 1).double().mean((2, 3)).tolist()
        return [
            {"width": width, "height": height, "means": dict(zip(self.targets.names, row, strict=True))}
            for row in means
        ]

    def picture(self, outputs: Tensor, placement: Placement, size: Sides) -> Image.Image:
        """Return the restored image, gray or RGB."""
        pixels = (outputs[0].clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)

    def drawn_target(self, image: Image.Image, target: Tensor) -> Image.Image:
        return self.picture(target[None], Placement.fitting(*image.size, Sides(*image.size)), Sides(*image.size))

    def prediction_rows(self, record: Mapping[str, Any]) -> list[tuple[str, str]]:
        size = ("size", f"{record['width']}x{record['height']}")
        return [size, *((f"mean of {name}", f"{value:.4f}") for name, value in record["means"].items())]

    def _psnr(self, outputs: Tensor, targets: Tensor) -> Tensor:
        border = partial(levels, color=self._color, border=self._border)
        return peak_signal_to_noise_ratio(border(outputs), border(targets))
