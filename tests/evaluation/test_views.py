"""Tests of test-time augmentation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import TINY, Run
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms import v2

from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.evaluation.trained_run import TrainedRun
from convoy.evaluation.views import ViewAverage, views_of

Convoy = Callable[..., Run]


def data_config(**changes: Any) -> DataConfig:
    settings = {"name": "x", "source": "digits", "channels": 1, "image_size": 28, "mean": [0.3], "std": [0.3]}
    return DataConfig(**settings | changes)


def test_ten_crops_are_those_of_torchvision() -> None:
    images = torch.rand(2, 3, 37, 37)
    views = views_of("tencrop", data_config(image_size=32))
    assert views.image_size == 37
    found = torch.stack([view(images) for view in views.functions])
    expected = torch.stack(v2.functional.ten_crop(images, [32, 32]))
    assert found.shape == expected.shape
    # torchvision has them in another order.
    assert all(any(torch.equal(one, other) for other in expected) for one in found)


@pytest.mark.parametrize(("resize", "size"), [(None, 256), (256, 256), (288, 288), (224, 256)])
def test_ten_crops_are_of_the_resized_image(resize: int | None, size: int) -> None:
    assert views_of("tencrop", data_config(image_size=224, eval_resize=resize)).image_size == size


def test_sizes_of_multiscale_are_around_that_of_training() -> None:
    views = views_of("multiscale", data_config())
    assert views.image_size == 32
    shapes = [tuple(view(torch.rand(1, 1, 32, 32)).shape[2:]) for view in views.functions]
    assert shapes == [(24, 24), (28, 28), (32, 32)] * 2


def test_a_list_has_multiples_of_the_sides_and_mirror_images() -> None:
    images = torch.rand(1, 1, 35, 35)
    views = views_of("0.5,1.25,flip", data_config())
    assert views.image_size == 35
    found = [view(images) for view in views.functions]
    assert [tuple(view.shape[2:]) for view in found] == [(14, 14), (35, 35)] * 2
    assert torch.equal(found[1], images)
    assert torch.equal(found[3], images.flip(-1))
    assert list(views.mirrored) == [False, False, True, True]
    assert len(views_of("0.5,1", data_config()).functions) == 2


@pytest.mark.parametrize("tta", ["0.5,flop", "0", "nan,1", "1,-1", "0.01", "mulitscale"])
def test_an_item_of_a_list_is_a_multiple_or_flip(tta: str) -> None:
    with pytest.raises(UserError, match=r"is neither a multiple of the image's sides nor flip; write a list such as"):
        views_of(tta, data_config())


def test_a_list_has_a_multiple_and_names_are_lists() -> None:
    with pytest.raises(UserError, match=r"tta=flip,flip: has no multiple of the image's sides; write \[1,flip\]"):
        views_of("flip,flip", data_config())
    with pytest.raises(UserError, match="neither a multiple"):
        views_of("1000", data_config())
    images = torch.rand(1, 1, 28, 28)
    assert [torch.equal(view(images), images) for view in views_of("none", data_config()).functions] == [True]
    flipped = views_of("flip", data_config())
    assert torch.equal(flipped.functions[1](images), images.flip(-1))
    assert list(flipped.mirrored) == [False, True]


def record_of(tta: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(Path(f"run/evaluation-digits-test-{tta}.json").read_text())
    return record


def predicted(run: TrainedRun, views: list[Tensor]) -> Tensor:
    """Return the mean of the probabilities for views of images."""
    with torch.no_grad():
        return torch.stack([torch.softmax(run.network(view).double(), 1) for view in views]).mean(0)


def test_metrics_are_those_of_the_averaged_probabilities(convoy: Convoy) -> None:
    assert convoy("train", *TINY).code == 0
    assert convoy("evaluate", "run=run", "tta=[1,flip]", folder=None).code == 0
    assert convoy("evaluate", "run=run", "tta=flip", folder=None).code == 0
    assert record_of("1-flip")["test/loss"] == record_of("flip")["test/loss"]
    record = record_of("flip")
    run = TrainedRun.open("run", "best", "outputs")
    data = run.open_data()
    right, loss, count = 0, 0.0, 0
    for images, labels in data.batches("test"):
        averaged = predicted(run, [images, images.flip(-1)])
        right += int((averaged.argmax(1) == labels).sum())
        loss += float(functional.nll_loss(averaged.log(), labels, reduction="sum"))
        count += len(labels)
    assert (record["tta"], record["images"]) == ("flip", count)
    assert record["test/top1"] == pytest.approx(right / count)
    assert record["test/loss"] == pytest.approx(loss / count, rel=1e-5)
    plain = json.loads(Path("run/summary.json").read_text())
    assert record["test/loss"] != plain["test/loss"]


@pytest.mark.slow
def test_ten_crops_of_larger_images_are_evaluated(convoy: Convoy) -> None:
    assert convoy("train", *TINY).code == 0
    done = convoy("evaluate", "run=run", "tta=tencrop", folder=None)
    assert done.code == 0, done.err
    assert "359 test images, tencrop" in done.out + done.err
    record = record_of("tencrop")
    run = TrainedRun.open("run", "best", "outputs")
    larger = run.open_data().of_size(37)
    right = 0
    for images, labels in larger.batches("test"):
        crops = list(v2.functional.ten_crop(images, [32, 32]))
        right += int((predicted(run, crops).argmax(1) == labels).sum())
    assert record["test/top1"] == pytest.approx(right / 359)


def test_a_network_of_one_size_is_refused(convoy: Convoy) -> None:
    assert convoy("train", *TINY, "trainer.max_steps=1").code == 0
    done = convoy("evaluate", "run=run", "tta=multiscale", folder=None)
    assert done.code == 2
    assert "tta=multiscale: the network does not take images of 27x27; use tta=tencrop or tta=flip" in done.err
    assert "did you mean multiscale?" in convoy("evaluate", "run=run", "tta=mulitscale", folder=None).err
    assert "tta=[]: is an empty list" in convoy("evaluate", "run=run", "tta=[]", folder=None).err
    done = convoy("evaluate", "runs=[run,run2]", "tta=flip", folder=None)
    assert "tta=flip: needs one run" in done.err


def test_multiscale_averages_over_sizes() -> None:
    class Brightest(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.amax((2, 3))

    class Plain:
        def outputs(self, network: nn.Module, images: Tensor) -> Tensor:
            return network(images)

        def to_average(self, outputs: Tensor) -> Tensor:
            return outputs.double()

        def restored(self, averaged: Tensor, images: Tensor, *, is_mirrored: bool) -> Tensor:
            return averaged

        def from_average(self, averaged: Tensor) -> Tensor:
            return averaged

    images = torch.rand(2, 1, 32, 32)
    averaged = ViewAverage(Brightest(), Plain(), views_of("multiscale", data_config()))(images)  # type: ignore[arg-type]
    resized = [v2.functional.resize(images, [size], antialias=True) for size in (24, 28)]
    expected = torch.stack([one.amax((2, 3)) for one in (*resized, images)]).double().mean(0)
    assert torch.allclose(averaged, expected, atol=1e-6)
