"""Interface between a task and the rest of Convoy.

A task is everything the training loop must know about targets, loss and metrics. Training, planner, records,
evaluation and export call the methods of `Task` and never ask which task it is. `docs/tasks.md` shows how to write one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchmetrics import MetricCollection

from convoy.config.data_schema import DataConfig
from convoy.config.image_size import ImageSize, Sides
from convoy.data.batches.collate import Batch
from convoy.data.targets import CLASS_INDEX, LOCATED_KINDS, Targets
from convoy.runs.records import metric_text
from convoy.tasks.losses import ConfiguredLoss
from convoy.tasks.task_report import Report

if TYPE_CHECKING:
    from convoy.data.located.placement import Placement


class Task(nn.Module, ABC):
    """Base class of tasks.

    A subclass implements `training_losses`, `metrics`, `update_metrics` and `predictions`; the other methods have
    defaults. It is a module so that its tensors (class weights, say) move to the run's device.

    Args:
        targets: kind and names of the targets that the data yields.
        loss: the configured loss (`conf/loss`).

    Attributes:
        monitor: metric that chooses the best checkpoint, such as `val/top1`.
        mode: `max` or `min`.
        percent: names of the metrics (without split) that are fractions and are printed in percent.
        titles: printed names of metrics, where they differ from their names.
        hidden: metrics that are logged but not printed in tables.
        severity_text: description of the order of `severity`, for people.
        epoch: epoch of training, counted from 0; set before each epoch.
    """

    titles: Mapping[str, str] = {}
    hidden: frozenset[str] = frozenset()
    severity_text: str = ""

    def __init__(self, targets: Targets, loss: ConfiguredLoss) -> None:
        super().__init__()
        self.targets = targets
        self.loss = loss
        self.monitor = "val/loss"
        self.mode = "min"
        self.epoch = 0
        self.percent: frozenset[str] = frozenset()
        self._logged: dict[str, Tensor] = {}

    @abstractmethod
    def training_losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Run one training forward pass and return the losses by name.

        The training loop minimizes their sum, which is logged as `train/loss`. Where there are several, each is also
        logged as `train/<name>`. The planner and the ledger trace this function over fake tensors, so it must not
        read values of tensors (`item`, `if tensor`, `nonzero`).

        Args:
            network: the network in training mode.
            batch: images [B, C, H, W] and the targets.

        Returns:
            Scalars, each a mean over the micro batch.
        """

    @abstractmethod
    def metrics(self, split: str) -> MetricCollection:
        """Return new metrics for a split, by name; `loss` is the name of the mean loss.

        Args:
            split: `val` or `test`.
        """

    @abstractmethod
    def update_metrics(self, metrics: MetricCollection, outputs: Any, targets: Any) -> None:
        """Count a batch.

        Args:
            metrics: created by `metrics`, and the user's additional ones.
            outputs: as returned by `outputs`.
            targets: the batch's targets.
        """

    @abstractmethod
    def predictions(self, outputs: Any, limit: int) -> list[dict[str, Any]]:
        """Return one JSON-compatible record per image.

        Args:
            outputs: as returned by `outputs`.
            limit: most entries per image, for tasks that rank their targets.
        """

    @abstractmethod
    def prediction_rows(self, record: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return a record of `predictions` as rows for a terminal: name and value."""

    def in_file(self, record: Mapping[str, Any], placement: Placement) -> Mapping[str, Any]:
        """Return a record of `predictions` with positions in pixels of the image file; by default unchanged.

        Args:
            record: of one image.
            placement: where the network saw the image.
        """
        return record

    def picture(self, outputs: Any, placement: Placement, size: Sides) -> Image.Image | None:
        """Return the prediction for one image as an image; None (the default) if it is none.

        Args:
            outputs: as returned by `outputs`, for one image.
            placement: where the network saw the image.
            size: size of the image file.
        """
        return None

    def drawn(self, image: Image.Image, record: Mapping[str, Any], picture: Image.Image | None) -> Image.Image | None:
        """Return an image with its prediction drawn on it; None (the default) if it can't be drawn.

        Args:
            image: the image, in its own size.
            record: as returned by `in_file`.
            picture: as returned by `picture`.
        """
        return None

    def drawn_target(self, image: Image.Image, target: Any) -> Image.Image | None:
        """Return an image as the network saw it with its target drawn on it; None (the default) if it can't be drawn.

        Args:
            image: the image.
            target: of the image, as in a batch, on the CPU.
        """
        return None

    def decisions(self, outputs: Any) -> Tensor | None:
        """Return what a prediction decides per image, [N] or [N, ...], to compare two networks; None if nothing.

        Without decisions (the default) two networks are compared by the values of their outputs.
        """
        return None

    def severity(self, outputs: Any, targets: Any) -> Tensor | None:
        """Return how wrong each prediction is, [N], 0 if it is right; None (the default) if that is not defined.

        A run keeps the images of its test with the largest values.
        """
        return None

    def evidence(self, outputs: Any) -> Tensor:
        """Return the output per image that an activation map explains, [N]: by default the largest one."""
        largest: Tensor = outputs.flatten(1).max(1).values
        return largest

    def target_texts(self, targets: Any) -> list[str]:
        """Return the targets of a batch for people, one text per image."""
        return [str(target) for target in targets.tolist()]

    def outputs(self, network: Callable[[Tensor], Any], images: Tensor) -> Any:
        """Return the network's outputs for evaluation, in float32."""
        outputs = network(images)
        return outputs.float() if isinstance(outputs, Tensor) else outputs

    @property
    def num_outputs(self) -> int:
        """Number of the network's outputs per image or position, its `num_classes`; by default one per target name."""
        return len(self.targets.names)

    def output_fault(self, outputs: Any, images: Tensor) -> str | None:
        """Return the reason why outputs don't fit the task; None if they fit.

        The default expects a tensor [B, num_outputs].

        Args:
            outputs: of the network in evaluation mode.
            images: images that were passed in, [B, C, H, W].
        """
        expected = (len(images), self.num_outputs)
        if not isinstance(outputs, Tensor):
            return f"returns {type(outputs).__name__}; the task expects a tensor of shape {expected}"
        if tuple(outputs.shape) != expected:
            return f"returns shape {tuple(outputs.shape)}; the task expects {expected}"
        return None

    @property
    def output_check(self) -> Callable[[Any, Tensor], str | None] | None:
        """`output_fault` of a task that overrides it; None: outputs are [N, num_outputs]."""
        return None if type(self).output_fault is Task.output_fault else self.output_fault

    def prepare(self, data: DataConfig) -> None:
        """Load what training needs besides the network; called before a run's folder is created.

        Args:
            data: data config of the run, whose images the batches contain.

        Raises:
            UserError: it can't be loaded, or does not fit the data.
        """
        self.loss.prepare()

    @property
    def resident_bytes(self) -> int:
        """Memory of what `prepare` loaded and training keeps on the device."""
        return self.loss.resident_bytes

    def uninformed_loss(self, device: torch.device) -> float | None:
        """Return the training loss of outputs that say nothing about the targets; None if it is not known.

        The first loss of a run should be close to it: ln(K) for K classes with cross entropy.

        Args:
            device: device of the task.
        """
        return None

    def example_targets(self, num_images: int, image_size: ImageSize) -> Any:
        """Return targets of the right shape and type without meaning, for tracing without data.

        Args:
            num_images: images of the batch.
            image_size: side of a square image in pixels, or (height, width).
        """
        if self.targets.kind == CLASS_INDEX:
            return torch.zeros(num_images, dtype=torch.int64)
        return torch.zeros(num_images, len(self.targets.names))

    def update(self, metrics: MetricCollection, network: nn.Module, batch: Batch) -> Any:
        """Evaluate one batch, count it, and return the outputs."""
        outputs = self.outputs(network, batch.images)
        self.update_metrics(metrics, outputs, batch.targets)
        return outputs

    def compute(self, metrics: MetricCollection) -> dict[str, float]:
        """Return every scalar metric by name, over all ranks."""
        values = {}
        for name, metric in metrics.items(keep_base=True):
            if name in self.report_metrics:
                continue
            values[str(name)] = float(metric.compute())
        return values

    report_metrics: frozenset[str] = frozenset()
    """Metrics that are not scalars; they belong to the report."""

    def metric_names(self) -> tuple[str, ...]:
        """Return the names of the scalar metrics of a split."""
        return tuple(str(name) for name in self.metrics("val").keys(keep_base=True) if name not in self.report_metrics)

    def report(self, metrics: MetricCollection) -> Report:
        """Return results of a test beyond scalar metrics."""
        return Report()

    def to_average(self, outputs: Any) -> Tensor:
        """Return what an ensemble averages, in float64: probabilities, or the outputs themselves (the default)."""
        averaged: Tensor = outputs.double()
        return averaged

    @property
    def views(self) -> tuple[str, ...]:
        """Test-time augmentations that the task can average; by default all, and none for targets with positions."""
        return () if self.targets.kind in LOCATED_KINDS else ("flip", "tencrop", "multiscale")

    def restored(self, averaged: Tensor, images: Tensor, *, is_mirrored: bool) -> Tensor:
        """Return what `to_average` returned for a view of images, at the places of the images.

        The default is for outputs that have no positions.

        Args:
            averaged: of the view.
            images: the images [B, C, H, W] that the view was taken from.
            is_mirrored: whether the view is mirrored.
        """
        return averaged

    def from_average(self, averaged: Tensor) -> Any:
        """Return outputs that have been averaged as `update_metrics` takes them."""
        return averaged

    def likelihoods(self, averaged: Tensor, targets: Any) -> Tensor | None:
        """Return the probability of each target, for learned ensemble weights; None if the task has none.

        Args:
            averaged: what `to_average` returned for M members, [M, N, ...].
            targets: of the N samples.

        Returns:
            [M, number of independent targets].
        """
        return None

    def log(self, name: str, total: Tensor) -> None:
        """Log a training metric as `train/<name>`, averaged over samples until the next row.

        Args:
            name: of the metric.
            total: scalar, the sum over the samples of the micro batch.
        """
        self._logged[name] = total.detach()

    def take_logged(self) -> dict[str, Tensor]:
        """Return what `log` received since the last call."""
        logged, self._logged = self._logged, {}
        return logged

    def text(self, name: str, value: float | None) -> str:
        """Format the value of a metric, with or without its split, for people."""
        return metric_text(name, value, self.percent)

    def title(self, name: str) -> str:
        """Return the printed name of a metric."""
        return self.titles.get(name, name)


def total_loss(losses: dict[str, Tensor]) -> Tensor:
    """Return the sum of losses, added in their order.

    Raises:
        ValueError: there is none.
    """
    values = iter(losses.values())
    total = next(values, None)
    if total is None:
        raise ValueError("training_losses returned no loss")
    for value in values:
        total = total + value
    return total
