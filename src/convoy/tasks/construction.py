"""Tasks and additional metrics from their config."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from convoy.config.faults import Fault, UserError, did_you_mean, one_line
from convoy.config.image_size import Sides, sides_of
from convoy.config.schema import Config
from convoy.config.targets import build, signature_faults, takes
from convoy.data.targets import CLASS_INDEX, IGNORED, IMAGE, KEYPOINTS, MASK, MULTI_HOT, VALUES, Targets
from convoy.tasks.losses import ConfiguredLoss, check_loss, needs_class_counts, weight_faults
from convoy.tasks.present_classes import PresentClassesMean
from convoy.tasks.task import Task

_GIVEN = frozenset({"targets", "loss"})
_OF_CLASSES = ("torch.nn.CrossEntropyLoss", "convoy.tasks.losses.FocalLoss")
"""Losses that take any floating-point targets as probabilities of classes."""

_EXPECTED = {
    CLASS_INDEX: ("logits [B, {0}] and class indices [B]", "write loss=cross_entropy or loss=focal"),
    MULTI_HOT: ("logits [B, {0}] and labels [B, {0}]", "write loss=bce"),
    VALUES: ("outputs and values [B, {0}]", "write loss=mse, loss=l1, loss=huber or loss=smooth_l1"),
    MASK: ("logits [B, {0}, H, W] and class indices [B, H, W]", "write loss=cross_entropy, loss=focal or loss=dice"),
    KEYPOINTS: ("heatmaps or coordinates of points", "omit loss, or write loss=mse or loss=l1"),
    IMAGE: ("outputs and images [B, {0}, H, W]", "write loss=l1, loss=mse or loss=ssim"),
}
"""Outputs and targets of each kind in words, and losses that take them."""


def check_task(config: Config) -> list[Fault]:
    """Return the faults of the task, loss and metric groups. Imports their libraries."""
    faults = signature_faults("task", config.task, _GIVEN) + check_loss(config.loss)
    for name, node in config.metric.items():
        faults += signature_faults(f"metric.{name}", node)
    return faults


def build_task(config: Config, targets: Targets, class_counts: Callable[[], Tensor] | None = None) -> Task:
    """Build the task of a config.

    Args:
        config: its groups task, loss and metric.
        targets: kind and names of the data's targets.
        class_counts: returns the training samples per class, for `loss.weight` (see `losses.class_weights`); None
            without data.

    Raises:
        UserError: the data's targets are of another kind, an argument is refused, or the monitored metric is unknown.
    """
    node = config.task
    if node["target"] != targets.kind:
        rule = f"trains on targets of the kind {node['target']}; data={config.data.name} has {targets.kind}"
        raise UserError(Fault("task", rule, f"omit task, or choose data with targets of the kind {node['target']}"))
    if faults := weight_faults(config.loss, targets):
        raise UserError(*faults)
    counts = class_counts() if class_counts is not None and needs_class_counts(config.loss) else None
    loss = ConfiguredLoss(config.loss, counts, IGNORED if targets.kind == MASK else None)
    given: dict[str, Any] = {}
    if takes(node, "task", "auxiliary_weight") and "auxiliary_weight" in config.model:
        given["auxiliary_weight"] = config.model["auxiliary_weight"]
    task = build("task", node, targets, loss, **given)
    if not isinstance(task, Task):
        rule = "is not a subclass of convoy.tasks.task.Task"
        raise UserError(Fault("task._target_", rule, "derive it from Task", str(node["_target_"])))
    task.monitor, task.mode = str(node["monitor"]), str(node["mode"])
    task.percent = frozenset(str(name) for name in node.get("percent") or ())
    _check_monitor(task, config)
    return task


def metrics_of(task: Task, config: Config, split: str) -> MetricCollection:
    """Return new metrics of a split: the task's and those of the `metric` group."""
    metrics = task.metrics(split)
    for name, node in config.metric.items():
        if name in metrics:
            raise UserError(Fault(f"metric.{name}", "is the name of a metric of the task", "choose another name"))
        metrics.add_metrics({name: _metric(name, node, task)})
    return metrics


def check_shapes(task: Task, config: Config) -> None:
    """Compute the loss for outputs and targets without meaning and, for classes, the `metric` group.

    Raises:
        UserError: one of them needs outputs or targets of another kind or shape, such as a class per pixel.
    """
    kind, size = task.targets.kind, sides_of(config.data.image_size) if task.targets.kind == IMAGE else Sides(16, 16)
    targets = task.example_targets(2, size.value)
    sides = targets.shape[2:] if kind == IMAGE else size if kind in (MASK, KEYPOINTS) else ()
    outputs = torch.zeros(2, task.num_outputs, *sides)
    targets = torch.zeros_like(outputs) if kind == KEYPOINTS else targets
    if kind == MASK:
        targets = torch.zeros(2, *size, dtype=torch.int64)
        targets[0, 0, 0] = IGNORED
    calls: dict[str, list[Callable[..., Any]]] = {"loss": [task.loss, task.loss.per_sample]}
    if kind in (CLASS_INDEX, MASK):
        calls |= {f"metric.{name}": [_metric(name, node, task).update] for name, node in config.metric.items()}
    shapes, losses = _EXPECTED[kind]
    for key, functions in calls.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of broadcasting, which the error explains
                for function in functions:
                    function(outputs, targets)
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            rule = f"doesn't take {shapes.format(task.num_outputs)} ({one_line(error, 120)})"
            raise UserError(Fault(key, rule, losses if key == "loss" else f"omit {key.replace('.', '=')}")) from error
    if kind in (VALUES, KEYPOINTS, IMAGE) and config.loss["_target_"] in _OF_CLASSES:
        raise UserError(Fault("loss", f"compares classes, and does not take {shapes.format(task.num_outputs)}", losses))


def _metric(name: str, node: Mapping[str, Any], task: Task) -> Metric:
    sizes = {"{num_classes}": len(task.targets.names)}
    filled = {key: sizes.get(value, value) if isinstance(value, str) else value for key, value in node.items()}
    metric = build(f"metric.{name}", filled)
    if not isinstance(metric, Metric):
        rule = "is not a torchmetrics Metric"
        raise UserError(Fault(f"metric.{name}._target_", rule, "derive it from torchmetrics.Metric", node["_target_"]))
    is_macro = task.targets.kind == CLASS_INDEX and getattr(metric, "average", None) == "macro"
    return PresentClassesMean(metric, len(task.targets.names)) if is_macro else metric


def _check_monitor(task: Task, config: Config) -> None:
    names = [f"val/{name}" for name in (*task.metric_names(), *config.metric)]
    if task.monitor not in names:
        near = did_you_mean(task.monitor, names, f"choose from {', '.join(names)}")
        raise UserError(Fault("task.monitor", "no such metric", near, task.monitor))
    if task.mode not in ("max", "min"):
        raise UserError(Fault("task.mode", "must be max or min", "", task.mode))
