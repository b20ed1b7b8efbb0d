"""Metrics and losses of the tasks against scikit-learn and PyTorch."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    precision_score,
    r2_score,
    recall_score,
    roc_auc_score,
    top_k_accuracy_score,
)
from torch import Tensor
from torch.nn import functional

from convoy.config.faults import UserError
from convoy.data.targets import Targets
from convoy.tasks.construction import build_task, check_shapes, metrics_of
from convoy.tasks.task import Task
from convoy.training.preflight import read


def task_of(names: int, kind: str, *overrides: str) -> Task:
    config = read([*overrides, "logger=csv"])
    return build_task(config, Targets(kind, tuple(f"n{index}" for index in range(names))))


def evaluated(task: Task, outputs: Tensor, targets: Tensor) -> dict[str, float]:
    metrics = task.metrics("val")
    for part, wanted in zip(outputs.split(20), targets.split(20), strict=True):
        task.update_metrics(metrics, part, wanted)
    return task.compute(metrics)


def test_classification_over_ragged_batches_equals_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(3)
    logits, labels = torch.randn(57, 8, generator=generator), torch.randint(0, 8, (57,), generator=generator)
    task = task_of(8, "class_index", "loss.label_smoothing=0.3")
    values = evaluated(task, logits, labels)

    probabilities = logits.softmax(1).double().numpy()
    probabilities /= probabilities.sum(1, keepdims=True)
    predicted = logits.argmax(1).numpy()
    assert values["top1"] == pytest.approx(accuracy_score(labels, predicted))
    assert values["error"] == pytest.approx(1 - accuracy_score(labels, predicted))
    assert values["top5"] == pytest.approx(top_k_accuracy_score(labels, probabilities, k=5, labels=range(8)))
    assert values["loss"] == pytest.approx(log_loss(labels, probabilities, labels=range(8)), rel=1e-5)

    metrics = task.metrics("test")
    task.update_metrics(metrics, logits, labels)
    report, matrix = task.report(metrics), confusion_matrix(labels, predicted, labels=range(8))
    assert [list(row[1:]) for row in report.tables["confusion_matrix"].rows] == matrix.tolist()
    assert list(report.values["per_class"].values()) == pytest.approx(list(np.diag(matrix) / matrix.sum(1)))


def test_classification_has_no_top5_of_few_classes_and_no_accuracy_of_a_class_without_images() -> None:
    task = task_of(3, "class_index")
    metrics = task.metrics("test")
    task.update_metrics(metrics, torch.eye(3)[:2], torch.tensor([0, 1]))
    assert "top5" not in task.compute(metrics)
    assert list(task.report(metrics).values["per_class"].values()) == [1.0, 1.0, None]


def test_multilabel_equals_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(57, 4, generator=generator)
    targets = (torch.rand(57, 4, generator=generator) < 0.4).float()
    values = evaluated(task_of(4, "multi_hot", "task=multilabel"), logits, targets)
    probabilities, truth = logits.sigmoid().numpy(), targets.numpy().astype(int)
    predicted = (probabilities > 0.5).astype(int)
    assert values["map"] == pytest.approx(average_precision_score(truth, probabilities, average="macro"), abs=1e-6)
    assert values["f1_macro"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert values["f1_micro"] == pytest.approx(f1_score(truth, predicted, average="micro"))
    assert values["accuracy"] == pytest.approx((truth == predicted).mean())
    expected = functional.binary_cross_entropy_with_logits(logits, targets)
    assert values["loss"] == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("num_values", [1, 3])
def test_regression_equals_scikit_learn(num_values: int) -> None:
    generator = torch.Generator().manual_seed(7)
    targets = torch.randn(57, num_values, generator=generator)
    outputs = targets + 0.5 * torch.randn(57, num_values, generator=generator)
    values = evaluated(task_of(num_values, "values", "task=regression"), outputs, targets)
    truth, predicted = targets.numpy(), outputs.numpy()
    assert values["mae"] == pytest.approx(mean_absolute_error(truth, predicted), rel=1e-5)
    assert values["rmse"] == pytest.approx(mean_squared_error(truth, predicted) ** 0.5, rel=1e-5)
    assert values["r2"] == pytest.approx(r2_score(truth, predicted), rel=1e-4)
    assert values["loss"] == pytest.approx(mean_squared_error(truth, predicted), rel=1e-5)


def test_focal_loss_without_focus_is_cross_entropy_and_follows_its_formula() -> None:
    logits, labels = torch.randn(9, 4, generator=torch.Generator().manual_seed(1)), torch.arange(9) % 4
    plain = task_of(4, "class_index", "loss=focal", "loss.gamma=0").loss(logits, labels)
    assert plain.item() == pytest.approx(functional.cross_entropy(logits, labels).item(), rel=1e-6)
    probability = logits.double().softmax(1)[torch.arange(9), labels]
    expected = (-((1 - probability) ** 2) * probability.log()).mean()
    focal = task_of(4, "class_index", "loss=focal").loss(logits, labels)
    assert focal.item() == pytest.approx(expected.item(), rel=1e-6)


def test_class_weights_are_a_list_or_balanced() -> None:
    logits, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 0, 0, 1, 1, 2])
    listed = task_of(3, "class_index", "loss.weight=[1,2,3]").loss(logits, labels)
    expected = functional.cross_entropy(logits, labels, torch.tensor([1.0, 2.0, 3.0]))
    assert listed.item() == pytest.approx(expected.item(), rel=1e-6)
    config = read(["loss.weight=balanced", "logger=csv"])
    task = build_task(config, Targets("class_index", ("a", "b", "c")), lambda: torch.tensor([3, 2, 1]))
    weights = torch.tensor([6 / 9, 6 / 6, 6 / 3])  # as scikit-learn's class_weight="balanced"
    expected = functional.cross_entropy(logits, labels, weights)
    assert task.loss(logits, labels).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        ("mask", ["loss=mse"], "loss: doesn't take logits [B, 3, H, W] and class indices [B, H, W] ("),
        ("mask", ["metric=f1_macro"], "metric.f1_macro: doesn't take logits [B, 3, H, W]"),
        ("image", ["loss=cross_entropy"], "loss: compares classes, and does not take outputs and images [B, 3, H, W]"),
        ("image", ["loss=dice"], "loss: doesn't take outputs and images [B, 3, H, W] ("),
        ("keypoints", ["loss=cross_entropy"], "does not take heatmaps or coordinates of points; omit loss, or write"),
        ("values", ["loss=focal"], "loss: compares classes, and does not take outputs and values [B, 3]; write loss="),
        ("multi_hot", ["loss=lovasz"], "loss: doesn't take logits [B, 3] and labels [B, 3] ("),
    ],
)
def test_losses_and_metrics_of_other_targets_are_refused(kind: str, words: list[str], message: str) -> None:
    option = {"mask": "segmentation", "image": "image_to_image", "values": "regression", "multi_hot": "multilabel"}
    config = read([f"task={option.get(kind, kind)}", "logger=csv", *words])
    with pytest.raises(UserError, match=re.escape(message)):
        check_shapes(build_task(config, Targets(kind, ("a", "b", "c"))), config)


def test_losses_of_images_and_points_are_accepted() -> None:
    accepted = {
        "segmentation": ("mask", ["loss=cross_entropy_dice", "metric=boundary_f1"]),
        "image_to_image": ("image", ["loss=ssim"]),
        "keypoints": ("keypoints", ["loss=huber"]),
    }
    for task, (kind, words) in accepted.items():
        config = read([f"task={task}", "logger=csv", *words])
        check_shapes(build_task(config, Targets(kind, ("a", "b", "c"))), config)


@pytest.mark.parametrize(
    ("names", "kind", "words", "message"),
    [
        (
            3,
            "class_index",
            ["loss.weight=[1,2]"],
            "loss.weight=[1, 2]: has 2 numbers for 3 classes; write one",
        ),
        (3, "class_index", ["loss.weight=[0,0,0]"], "must have a number above 0"),
        (3, "class_index", ["loss.weight=[1,-2,1]"], "loss.weight=-2: must be at least 0"),
        (3, "multi_hot", ["task=multilabel", "loss=bce", "loss.pos_weight=[1]"], "has 1 number for 3 labels"),
    ],
)
def test_class_weights_that_fit_no_class_are_refused(names: int, kind: str, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        task_of(names, kind, *words)


def test_additional_metrics_are_those_of_torchmetrics() -> None:
    config = read(["metric=[f1_macro,cohen_kappa]", "logger=csv"])
    task = build_task(config, Targets("class_index", tuple("abc")))
    logits, labels = torch.randn(40, 3, generator=torch.Generator().manual_seed(2)), torch.arange(40) % 3
    metrics = metrics_of(task, config, "val")
    task.update_metrics(metrics, logits, labels)
    assert task.compute(metrics)["f1_macro"] == pytest.approx(f1_score(labels, logits.argmax(1), average="macro"))


def test_the_calibration_error_is_that_of_fifteen_bins() -> None:
    config = read(["metric=calibration_error", "logger=csv"])
    task = build_task(config, Targets("class_index", tuple("abc")))
    logits = 3 * torch.randn(200, 3, generator=torch.Generator().manual_seed(5))
    labels = torch.randint(0, 3, (200,), generator=torch.Generator().manual_seed(6))
    metrics = metrics_of(task, config, "test")
    task.update_metrics(metrics, logits, labels)
    confidence, predicted = logits.softmax(1).numpy().max(1), logits.argmax(1).numpy()
    right = predicted == labels.numpy()
    bins = np.ceil(confidence * 15)
    gaps = [abs(right[bins == one].mean() - confidence[bins == one].mean()) * np.mean(bins == one) for one in set(bins)]
    assert task.compute(metrics)["calibration_error"] == pytest.approx(sum(gaps), abs=1e-5)


def test_macro_averages_leave_out_classes_without_images() -> None:
    """Class 2 has no image, but is predicted; class 4 is neither."""
    nodes = {
        "f1_macro": "MulticlassF1Score",
        "recall": "MulticlassRecall",
        "precision": "MulticlassPrecision",
        "balanced": "MulticlassAccuracy",
        "jaccard": "MulticlassJaccardIndex",
        "auroc": "MulticlassAUROC",
        "ap": "MulticlassAveragePrecision",
    }
    given = "num_classes: '{num_classes}', average: macro"
    words = [
        f"+metric.{name}={{_target_: torchmetrics.classification.{metric}, {given}}}" for name, metric in nodes.items()
    ]
    config = read([*words, "logger=csv"])
    task = build_task(config, Targets("class_index", tuple("abcde")))
    logits = torch.randn(60, 5, generator=torch.Generator().manual_seed(4))
    logits[:, 4] -= 9
    labels = torch.tensor([0, 1, 3]).repeat(20)
    metrics = metrics_of(task, config, "test")
    for part in (slice(0, 17), slice(17, 60)):
        task.update_metrics(metrics, logits[part], labels[part])
    values = task.compute(metrics)
    predicted, present = logits.argmax(1).numpy(), [0, 1, 3]
    assert 2 in predicted
    options = {"labels": present, "average": "macro", "zero_division": 0}
    assert values["f1_macro"] == pytest.approx(f1_score(labels, predicted, **options))
    assert values["recall"] == pytest.approx(recall_score(labels, predicted, **options))
    assert values["precision"] == pytest.approx(precision_score(labels, predicted, **options))
    assert values["jaccard"] == pytest.approx(jaccard_score(labels, predicted, **options))
    assert values["balanced"] == pytest.approx(recall_score(labels, predicted, **options))
    probabilities = logits.softmax(1).numpy()
    ranked = [(labels.numpy() == label, probabilities[:, label]) for label in present]
    assert values["auroc"] == pytest.approx(np.mean([roc_auc_score(*one) for one in ranked]))
    assert values["ap"] == pytest.approx(np.mean([average_precision_score(*one) for one in ranked]), rel=1e-5)
    per_class = task.report(metrics).values["per_class"]
    recalls = recall_score(labels, predicted, labels=range(5), average=None, zero_division=0)
    assert per_class == {
        "a": pytest.approx(recalls[0]),
        "b": pytest.approx(recalls[1]),
        "c": None,
        "d": pytest.approx(recalls[3]),
        "e": None,
    }


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        (["task.monitor=val/top_1"], r"task\.monitor=val/top_1: no such metric; did you mean val/top1\?"),
        (["task.mode=most"], r"task\.mode=most: must be max or min"),
        (["task=regression"], r"trains on targets of the kind values; data=digits has class_index"),
    ],
)
def test_a_wrong_task_is_refused(overrides: list[str], rule: str) -> None:
    with pytest.raises(UserError, match=rule):
        task_of(10, "class_index", *overrides)
