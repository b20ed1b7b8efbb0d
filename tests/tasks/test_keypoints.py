"""Tests of the task of key points against closed forms, pycocotools and the learning of a batch."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convoy.config.faults import UserError
from convoy.config.image_size import Sides
from convoy.data.batches.collate import Batch
from convoy.data.targets import KEYPOINTS, Targets
from convoy.tasks.heatmaps import decoded, heatmaps
from convoy.tasks.keypoints import Keypoints
from convoy.tasks.losses import ConfiguredLoss
from convoy.tasks.point_metrics import CorrectPoints, PointErrors, SimilarityAP
from convoy.training.preflight import read

SIZE = Sides(64, 96)
NAMES = ("a", "b", "c", "d")


def task(**changes: Any) -> Keypoints:
    loss = ConfiguredLoss({"_target_": "torch.nn.MSELoss"})
    return Keypoints(Targets(KEYPOINTS, NAMES), loss, SIZE, **changes)


def random_targets(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, len(NAMES), 2, generator=generator) * torch.tensor([95.0, 63.0])
    known = (torch.rand(count, len(NAMES), 1, generator=generator) < 0.8).float()
    return torch.cat([points * known, known, torch.full_like(known, 2.0)], dim=-1)


def test_heatmaps_are_decoded_to_a_part_of_a_pixel() -> None:
    generator = torch.Generator().manual_seed(1)
    points = 6 + torch.rand(20, 4, 2, generator=generator) * torch.tensor([83.0, 51.0])
    maps = heatmaps(points, Sides(16, 24), SIZE, sigma=1.5)
    assert maps.shape == (20, 4, 16, 24)
    found = decoded(maps, SIZE)
    torch.testing.assert_close(found.points, points, atol=1e-3, rtol=0)
    # The largest value is at the nearest pixel of the map.
    assert (found.scores > np.exp(-0.25 / 1.5**2) - 1e-6).all()


def test_flat_heatmaps_and_borders_are_decoded() -> None:
    flat = decoded(torch.zeros(1, 1, 16, 24), SIZE)
    assert flat.points.isfinite().all()
    corner = heatmaps(torch.zeros(1, 1, 2), Sides(16, 24), SIZE, sigma=1.0)
    assert (decoded(corner, SIZE).points - 0).abs().max() <= 1.5


@pytest.mark.parametrize("output", ["heatmaps", "coordinates"])
def test_unknown_points_have_no_loss(output: str) -> None:
    given = task(output=output)
    targets = random_targets(5)
    shape = (5, 4, 16, 24) if output == "heatmaps" else (5, 8)
    outputs = torch.randn(shape, requires_grad=True)
    losses = given.training_losses(_Constant(outputs), Batch(torch.zeros(5, 3, *SIZE), targets))
    assert list(losses) == ["points"]
    (gradient,) = torch.autograd.grad(losses["points"], outputs)
    known = targets[..., 2] > 0
    by_point = gradient.reshape(5, 4, -1).abs().sum(2)
    assert (by_point[~known] == 0).all()
    assert (by_point[known] > 0).all()


def test_stages_each_have_a_loss() -> None:
    maps = torch.rand(2, 4, 16, 24), torch.rand(2, 4, 16, 24)
    losses = task().training_losses(_Constant(maps), Batch(torch.zeros(2, 3, *SIZE), random_targets(2)))
    assert list(losses) == ["points", "stage_1"]


def test_distances_and_shares_are_those_of_numpy() -> None:
    targets, points = random_targets(50), random_targets(50, seed=9)[..., :2]
    errors = PointErrors(4, [0.1, 0.5])
    share = CorrectPoints(4, 0.5)
    for part in (slice(0, 20), slice(20, 50)):
        errors.update(points[part], targets[part])
        share.update(points[part], targets[part])
    known = targets[..., 2].numpy() > 0
    distances = np.hypot(*np.moveaxis((points - targets[..., :2]).numpy(), -1, 0))
    assert float(errors.compute()) == pytest.approx(np.sqrt(((2 * distances[known]) ** 2).mean()), rel=1e-6)
    correct = []
    for image in range(50):
        own = targets[image, :, :2].numpy()[known[image]]
        if len(own):
            side = (own.max(0) - own.min(0)).max()
            correct += list(distances[image][known[image]] <= 0.5 * side)
    assert float(share.compute()) == pytest.approx(np.mean(correct))
    assert float(errors.pck()[1]) == pytest.approx(np.mean(correct))


def test_similarity_is_that_of_pycocotools() -> None:
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    targets = random_targets(40)
    generator = torch.Generator().manual_seed(5)
    points = targets[..., :2] + 6 * torch.randn(40, 4, 2, generator=generator)
    scores = torch.rand(40, generator=generator)
    sigmas = [0.05, 0.1, 0.025, 0.08]
    metric = SimilarityAP(sigmas)
    metric.update(points[:15], targets[:15], scores[:15])
    metric.update(points[15:], targets[15:], scores[15:])

    annotations, results = [], []
    for image, rows in enumerate(targets.tolist(), 1):
        seen = [row for row in rows if row[2]]
        if not seen:
            continue
        xs, ys = [row[0] for row in seen], [row[1] for row in seen]
        box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        annotations.append(
            {
                "id": image,
                "image_id": image,
                "category_id": 1,
                "keypoints": [value for row in rows for value in (row[0], row[1], 2 * row[2])],
                "num_keypoints": len(seen),
                "area": box[2] * box[3],
                "bbox": box,
                "iscrowd": 0,
            }
        )
        predicted = [value for x, y in points[image - 1].tolist() for value in (x, y, 1.0)]
        results.append({"image_id": image, "category_id": 1, "keypoints": predicted, "score": float(scores[image - 1])})
    with redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        images = [{"id": entry["image_id"]} for entry in annotations]
        truth.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "x"}]}
        truth.createIndex()
        judge = evaluation.COCOeval(truth, truth.loadRes(results), "keypoints")
        judge.params.kpt_oks_sigmas = np.array(sigmas)
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.evaluate()
        judge.accumulate()
    expected = judge.eval["precision"]
    assert float(metric.compute()) == pytest.approx(float(expected[expected > -1].mean()), abs=1e-4)


def test_metrics_of_right_predictions() -> None:
    given, targets = task(output="coordinates"), random_targets(6)
    outputs = ((targets[..., :2] + 0.5) / torch.tensor([96.0, 64.0])).flatten(1)
    metrics = given.metrics("test")
    given.update_metrics(metrics, outputs, targets)
    values = given.compute(metrics)
    assert values["rmse"] == pytest.approx(0, abs=1e-4)
    assert (values["pck"], values["oks"]) == (1, 1)
    assert values["loss"] == pytest.approx(0, abs=1e-12)
    assert set(values) == set(given.metric_names())
    report = given.report(metrics)
    assert list(report.values["rmse_per_point"]) == list(NAMES)
    assert len(report.tables["pck"].rows) == 25
    assert given.severity(outputs, targets).max() < 1e-4


def test_predictions_are_positions() -> None:
    given, targets = task(), random_targets(1)
    targets[..., 2] = 1
    record = given.predictions(heatmaps(targets[..., :2], Sides(64, 96), SIZE, 2.0), 5)[0]
    assert list(record["points"]) == list(NAMES)
    for name, (x, y) in zip(NAMES, targets[0, :, :2].tolist(), strict=True):
        point = record["points"][name]
        assert (point["x"], point["y"]) == (pytest.approx(x, abs=1), pytest.approx(y, abs=1))
    assert given.prediction_rows(record)[0][0] == "a"


@pytest.mark.parametrize(
    ("changes", "outputs", "expected"),
    [
        ({}, torch.zeros(2, 4, 16, 24), None),
        ({}, torch.zeros(2, 4), "task.output=coordinates"),
        ({}, torch.zeros(2, 3, 16, 24), "expects (2, 4, height, width)"),
        ({"output": "coordinates"}, torch.zeros(2, 8), None),
        ({"output": "coordinates"}, torch.zeros(2, 4), "expects (2, 8), x and y of each point"),
    ],
)
def test_outputs_that_do_not_fit(changes: dict[str, Any], outputs: Tensor, expected: str | None) -> None:
    fault = task(**changes).output_fault(outputs, torch.zeros(2, 3, *SIZE))
    assert fault is None if expected is None else expected in str(fault)


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"output": "maps"}, "task.output"), ({"sigma": 0}, "task.sigma"), ({"oks_sigmas": [0.1]}, "task.oks_sigmas")],
)
def test_faults_of_settings(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError, match=key):
        task(**changes)


class _Constant(nn.Module):
    def __init__(self, outputs: Any) -> None:
        super().__init__()
        self._outputs = outputs

    def forward(self, images: Tensor) -> Any:
        return self._outputs


def test_layers_in_numbers_may_have_both_coordinates_of_each_point() -> None:
    data = ("data=keypoint_table", "data.root=nowhere", "data.file=points.csv", "data.num_classes=4")
    layers = "model.layers=[CONV3-4,POOL2,FC-8]"
    config = read([*data, "model=lenet5", layers, "task.output=coordinates"], to_run=False)
    assert config.model["layers"][-1] == "FC-8"
