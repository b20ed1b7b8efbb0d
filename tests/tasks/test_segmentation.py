"""The segmentation task: metrics against scikit-learn, losses against other libraries, pixels that are not counted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score, recall_score
from torch import Tensor, nn
from torch.nn import functional

from convoy.config.faults import UserError
from convoy.data.batches.collate import Batch
from convoy.data.targets import IGNORED, MASK, Targets
from convoy.tasks.boundary_f1 import BoundaryF1
from convoy.tasks.construction import build_task, check_task, metrics_of
from convoy.tasks.losses import class_weights
from convoy.tasks.task import Task
from convoy.training.preflight import read

NAMES = ("sky", "road", "tree", "car")


def task_of(*overrides: str, names: tuple[str, ...] = NAMES) -> Task:
    return build_task(configured(*overrides), Targets(MASK, names))


def configured(*overrides: str):  # type: ignore[no-untyped-def]
    return read(["task=segmentation", "data=camvid", "model=unet", *overrides, "logger=csv"], to_run=False)


def example(seed: int, images: int = 7, ignored: float = 0.2, classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, classes, 9, 12, generator=generator)
    targets = torch.randint(0, classes, (images, 9, 12), generator=generator)
    targets[torch.rand(targets.shape, generator=generator) < ignored] = IGNORED
    return logits, targets


def counted(logits: Tensor, targets: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Targets and predictions of the pixels that are counted."""
    kept = targets != IGNORED
    return targets[kept].numpy(), logits.argmax(1)[kept].numpy()


def evaluated(task: Task, logits: Tensor, targets: Tensor, split: str = "val") -> dict[str, float]:
    metrics = task.metrics(split)
    for part, wanted in zip(logits.split(3), targets.split(3), strict=True):
        task.update_metrics(metrics, part, wanted)
    return task.compute(metrics)


def test_metrics_over_ragged_batches_equal_scikit_learn() -> None:
    logits, targets = example(3)
    task = task_of()
    values = evaluated(task, logits, targets)
    truth, predicted = counted(logits, targets)
    assert list(values) == list(task.metric_names()) == ["loss", "miou", "pixel_accuracy", "dice"]
    assert values["miou"] == pytest.approx(jaccard_score(truth, predicted, average="macro"))
    assert values["dice"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert values["pixel_accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    expected = functional.cross_entropy(logits, targets, ignore_index=IGNORED)
    assert values["loss"] == pytest.approx(expected.item(), rel=1e-5)

    metrics = task.metrics("test")
    task.update_metrics(metrics, logits, targets)
    report = task.report(metrics)
    matrix = confusion_matrix(truth, predicted, labels=range(4))
    assert [list(row[1:]) for row in report.tables["confusion_matrix"].rows] == matrix.tolist()
    assert list(report.values["iou_per_class"].values()) == pytest.approx(
        list(jaccard_score(truth, predicted, average=None))
    )
    names, unions, dice, recall, pixels = zip(*report.tables["classes"].rows, strict=True)
    assert names == NAMES
    assert unions == pytest.approx(jaccard_score(truth, predicted, average=None))
    assert dice == pytest.approx(f1_score(truth, predicted, average=None))
    assert recall == pytest.approx(recall_score(truth, predicted, average=None))
    assert list(pixels) == matrix.sum(1).tolist()


@pytest.mark.parametrize(
    ("true", "predicted", "expected"),
    [
        ([0, 0, 1, 1], [0, 0, 1, 1], 1.0),  # classes 2 and 3 are absent and left out
        ([0, 0, 1, 1], [0, 0, 1, 2], (1 + 1 / 2 + 0) / 3),  # predicted though absent: counted as 0
        ([0, 0, IGNORED, 1], [0, 0, 2, 1], 1.0),  # predicted on an ignored pixel only: absent
        ([0, 0, 3, 3], [0, 0, 0, 0], (2 / 4 + 0) / 2),  # never predicted: 0
    ],
)
def test_absent_classes_are_left_out(true: list[int], predicted: list[int], expected: float) -> None:
    logits = functional.one_hot(torch.tensor(predicted), 4).float().T[None, :, None]
    values = evaluated(task_of(), logits, torch.tensor(true)[None, None])
    assert values["miou"] == pytest.approx(expected)


def test_a_split_without_counted_pixels_has_no_score() -> None:
    logits, targets = example(1)
    values = evaluated(task_of(), logits, torch.full_like(targets, IGNORED))
    assert all(math.isnan(value) for value in values.values())


def test_an_image_without_counted_pixels_changes_nothing() -> None:
    logits, targets = example(2)
    alone = evaluated(task_of(), logits[1:], targets[1:])
    targets[0] = IGNORED
    assert evaluated(task_of(), logits, targets) == pytest.approx(alone)


def smp_input(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Counted pixels as one image, for libraries that have all classes in it."""
    kept = targets != IGNORED
    return logits.transpose(0, 1)[:, kept][None, :, None], targets[kept][None, None]


@pytest.mark.parametrize(("loss", "name"), [("dice", "DiceLoss"), ("jaccard", "JaccardLoss"), ("lovasz", "LovaszLoss")])
def test_region_losses_equal_another_library(loss: str, name: str) -> None:
    losses = pytest.importorskip("segmentation_models_pytorch.losses")
    logits, targets = example(5)
    targets[targets == 2] = IGNORED  # a class that does not occur
    ours = task_of(f"loss={loss}").loss
    flat_logits, flat_targets = smp_input(logits, targets)
    theirs = getattr(losses, name)("multiclass", **({} if loss == "lovasz" else {"classes": [0, 1, 3]}))
    assert ours(logits, targets).item() == pytest.approx(theirs(flat_logits, flat_targets).item(), rel=1e-5)
    images = ours.per_sample(logits, targets)
    for index in range(len(targets)):
        assert images[index].item() == pytest.approx(ours(logits[[index]], targets[[index]]).item(), rel=1e-5)


@pytest.mark.parametrize("loss", ["dice", "jaccard", "lovasz", "focal", "cross_entropy", "cross_entropy_dice"])
def test_the_logits_of_pixels_that_are_not_counted_have_no_gradient(loss: str) -> None:
    logits, targets = example(6)
    logits.requires_grad_()
    task_of(f"loss={loss}").loss(logits, targets).backward()
    assert logits.grad is not None
    per_pixel = logits.grad.abs().sum(1)
    assert not per_pixel[targets == IGNORED].any()
    assert per_pixel[targets != IGNORED].any()
    assert per_pixel.isfinite().all()


@pytest.mark.parametrize("loss", ["dice", "jaccard", "lovasz"])
def test_right_and_sure_predictions_have_no_region_loss(loss: str) -> None:
    _, targets = example(7)
    sure = 50 * functional.one_hot(torch.where(targets == IGNORED, 0, targets), 4).permute(0, 3, 1, 2).float()
    assert task_of(f"loss={loss}").loss(sure, targets).item() == pytest.approx(0, abs=1e-5)
    assert task_of(f"loss={loss}").loss(sure, torch.full_like(targets, IGNORED)).item() == 0


def test_focal_loss_of_pixels_is_that_of_torchvision() -> None:
    logits, targets = example(8)
    kept = targets != IGNORED
    probability = logits.double().softmax(1).gather(1, torch.where(kept, targets, 0)[:, None])[:, 0][kept]
    expected = (-((1 - probability) ** 2) * probability.log()).mean()
    assert task_of("loss=focal").loss(logits, targets).item() == pytest.approx(expected.item(), rel=1e-5)
    weighted = task_of("loss=focal", "loss.weight=[1,2,3,4]").loss(logits, targets)
    weights = torch.tensor([1.0, 2, 3, 4])[targets[kept]]
    expected = (-((1 - probability) ** 2) * probability.log() * weights).mean()
    assert weighted.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_sum_of_losses_has_factors_and_further_terms() -> None:
    logits, targets = example(9)
    terms = [
        task_of(f"loss={name}", *more).loss
        for name, *more in (("cross_entropy", "loss.label_smoothing=0.1"), ("dice",), ("lovasz",))
    ]
    summed = task_of(
        "loss=cross_entropy_dice",
        "loss.factors.dice=0.5",
        "loss.terms.cross_entropy.label_smoothing=0.1",
        "+loss.terms.lovasz._target_=convoy.tasks.region_losses.LovaszLoss",
        "+loss.factors.lovasz=2",
    ).loss
    values = [term(logits, targets).item() for term in terms]
    assert summed(logits, targets).item() == pytest.approx(values[0] + 0.5 * values[1] + 2 * values[2], rel=1e-5)
    # In evaluation: without label smoothing, and per image.
    images = summed.per_sample(logits, targets)
    first = functional.cross_entropy(logits[:1], targets[:1], ignore_index=IGNORED).item()
    dice, lovasz = (term.per_sample(logits, targets)[0].item() for term in terms[1:])
    assert images.shape == (7,)
    assert images[0].item() == pytest.approx(first + 0.5 * dice + 2 * lovasz, rel=1e-5)


def test_mistakes_in_a_sum_of_losses_are_named() -> None:
    with pytest.raises(UserError, match=r"loss\.factors\.focal: has no term of this name; the terms are cross_entropy"):
        task_of("loss=cross_entropy_dice", "+loss.factors.focal=1")
    (fault,) = check_task(configured("loss=cross_entropy_dice", "+loss.terms.dice.gamma=1"))
    assert str(fault).startswith("loss.terms.dice.gamma=1: convoy.tasks.region_losses.DiceLoss has no such argument")


def test_class_weights_are_those_of_their_papers() -> None:
    # Pixels per class, and pixels of the images that have the class.
    counts = torch.tensor([[600, 300, 90, 0], [1000, 1000, 500, 0]])
    assert class_weights("balanced", counts[0, :3]).tolist() == pytest.approx([990 / 1800, 990 / 900, 990 / 270])
    frequencies = [0.6, 0.3, 0.18]
    expected = [0.3 / one for one in frequencies]
    assert class_weights("median_frequency", counts).tolist() == pytest.approx([*expected, 0])
    task = build_task(
        configured(
            "loss=cross_entropy_dice", "loss.terms.cross_entropy.weight=median_frequency", "loss.factors.dice=0"
        ),
        Targets(MASK, NAMES),
        lambda: counts,
    )
    logits, targets = example(4)
    wanted = functional.cross_entropy(logits, targets, torch.tensor([*expected, 0]), ignore_index=IGNORED)
    assert task.loss(logits, targets).item() == pytest.approx(wanted.item(), rel=1e-5)
    with pytest.raises(
        UserError, match=r"loss\.weight=median: must be a list of numbers, balanced or median_frequency"
    ):
        task_of("loss.weight=median")


class Auxiliary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.main, self.side = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return (self.main(images), self.side(images)) if self.training else self.main(images)


def test_an_auxiliary_classifier_contributes_its_share_of_the_loss() -> None:
    torch.manual_seed(0)
    network, task = Auxiliary().train(), task_of("+model.auxiliary_weight=0.4")
    images, (_, targets) = torch.randn(7, 3, 9, 12), example(3)
    losses = task.training_losses(network, Batch(images, targets))
    main, side = network(images)
    assert losses["pixels"].item() == pytest.approx(
        functional.cross_entropy(main, targets, ignore_index=IGNORED).item()
    )
    wanted = 0.4 * functional.cross_entropy(side, targets, ignore_index=IGNORED)
    assert losses["auxiliary_1"].item() == pytest.approx(wanted.item())
    truths = [accuracy_score(*counted(main[[index]], targets[[index]])) for index in range(7)]
    assert task.take_logged()["pixel_accuracy"].item() == pytest.approx(sum(truths), rel=1e-5)


def test_records_rows_and_texts_name_the_classes_by_their_share() -> None:
    task = task_of()
    logits = torch.zeros(1, 4, 2, 5)
    logits[0, 1] = 1
    logits[0, 3, 0, :3] = 2
    (record,) = task.predictions(logits, 5)
    assert record == {"classes": [{"class": "road", "share": 0.7}, {"class": "car", "share": 0.3}]}
    assert task.prediction_rows(record) == [("road", "70.00%"), ("car", "30.00%")]
    targets = torch.full((1, 2, 5), IGNORED)
    targets[0, 0, :3] = 3
    assert task.target_texts(targets) == ["car"]
    assert task.target_texts(torch.full_like(targets, IGNORED)) == ["–"]
    assert task.severity(logits, targets).tolist() == [0]
    assert task.decisions(logits)[0, 0].tolist() == [3, 3, 3, 1, 1]


def test_outputs_of_another_shape_are_refused() -> None:
    task, images = task_of(), torch.zeros(2, 3, 5, 6)
    assert task.output_fault(torch.zeros(2, 4, 5, 6), images) is None
    assert task.output_fault(torch.zeros(2, 4), images) == (
        "returns shape (2, 4); the task expects (2, 4, 5, 6), logits of each pixel, as model=unet returns"
    )
    assert task.output_fault(torch.zeros(2, 4, 2, 3), images) is not None
    assert str(task.output_fault({"out": 1}, images)).startswith("returns dict")


def test_averaged_probabilities_are_logits_again() -> None:
    task = task_of()
    logits, targets = example(3)
    averaged = task.to_average(logits)
    assert torch.allclose(task.from_average(averaged).softmax(1), averaged)
    likelihoods = task.likelihoods(averaged[None], targets)
    assert likelihoods is not None
    expected = functional.cross_entropy(logits, targets, ignore_index=IGNORED)
    assert -likelihoods.log().mean().item() == pytest.approx(expected.item(), rel=1e-5)


def boundary_score(truth: np.ndarray, predicted: np.ndarray, radius: float) -> float | None:
    """The score of one class in one image by distance transforms."""

    def boundary(region: np.ndarray) -> np.ndarray:
        cross = ndimage.generate_binary_structure(2, 1)
        return region & ~ndimage.binary_erosion(region, cross, border_value=1)

    if not truth.any() and not predicted.any():
        return None
    lines = boundary(truth), boundary(predicted)
    shares = []
    for line, other in (lines, lines[::-1]):
        distance = ndimage.distance_transform_edt(~other) if other.any() else np.full(line.shape, np.inf)
        shares.append((distance[line] <= radius).mean() if line.any() else 1.0)
    return 2 * shares[0] * shares[1] / sum(shares) if sum(shares) else 0.0


def test_the_boundary_score_is_that_of_distances() -> None:
    config = configured("metric=boundary_f1", "metric.boundary_f1.tolerance=0.05")
    task = build_task(config, Targets(MASK, NAMES))
    generator = torch.Generator().manual_seed(1)
    smooth = functional.interpolate(torch.randn(4, 4, 6, 8, generator=generator), scale_factor=8, mode="bilinear")
    targets = functional.interpolate(torch.randn(4, 3, 6, 8, generator=generator), scale_factor=8, mode="bilinear")
    targets = targets.argmax(1)
    targets[:, :5, :7] = IGNORED
    smooth[:, :3] += functional.one_hot(torch.where(targets == IGNORED, 0, targets), 3).permute(0, 3, 1, 2)
    smooth[0, 3] = -9  # absent from the first image
    metrics = metrics_of(task, config, "val")
    task.update_metrics(metrics, smooth[:3], targets[:3])
    task.update_metrics(metrics, smooth[3:], targets[3:])
    radius = 0.05 * math.hypot(48, 64)
    means = []
    for index in range(4):
        kept = (targets != IGNORED).numpy()
        pairs = zip(((targets == index).numpy() & kept), ((smooth.argmax(1) == index).numpy() & kept), strict=True)
        scores = [score for pair in pairs if (score := boundary_score(*pair, radius)) is not None]
        means.append(np.mean(scores))
    assert 0.2 < np.mean(means) < 0.99
    assert task.compute(metrics)["boundary_f1"] == pytest.approx(np.mean(means), rel=1e-4)


def test_a_region_all_over_the_image_has_a_boundary_score() -> None:
    metric = BoundaryF1(num_classes=2)
    logits = torch.tensor([1.0, 0.0])[None, :, None, None].expand(1, 2, 6, 6)
    metric.update(logits, torch.zeros(1, 6, 6, dtype=torch.int64))
    assert metric.compute().item() == pytest.approx(1.0)
    metric.reset()
    half = torch.zeros(1, 6, 6, dtype=torch.int64)
    half[:, 3:] = 1
    metric.update(logits, half)
    assert metric.compute().item() == pytest.approx(0.0, abs=1e-6)
