"""Images that are not square, from the command line to the exported file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.conftest import TINY, Run
from torchvision.transforms import v2

from convoy.config.data_schema import DataConfig
from convoy.config.image_size import Sides
from convoy.data.check import check_data
from convoy.data.opening.open_data import open_data
from convoy.data.sources.digits import read_digits
from convoy.evaluation.trained_run import TrainedRun
from convoy.evaluation.views import views_of
from convoy.models.building.build import build_model
from convoy.models.building.sizes import smallest_image_size, takes_image_size

Convoy = Callable[..., Run]

WIDE = ("data.image_size=[20,36]", "data.augment.pad_crop=2", "data.augment.cutout=6")


def memory_set(**changes: object) -> DataConfig:
    settings = {"name": "digits", "source": "digits", "channels": 1, "mean": [0.3], "std": [0.3]}
    return DataConfig(**(settings | changes))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([224], "must be a whole number of pixels, or [height,width]; write 224 for a square, or [224,320]"),
        ([20, 30, 3], "must be a whole number of pixels, or [height,width]; write 224 for a square, or [224,320]"),
        ([20.5, 30], "must be a whole number of pixels, or [height,width]; write 224 for a square, or [224,320]"),
        (True, "must be a whole number of pixels, or [height,width]; write 224 for a square, or [224,320]"),
        ("20x30", "must be a whole number of pixels, or [height,width]; write [20,30]"),
        ([8, 0], "must be at least 1"),
        (20000, "must be at most 16384"),
        (None, "is missing; give the side of the network's input in pixels, or [height,width]"),
    ],
)
def test_a_wrong_size_is_refused(value: object, message: str) -> None:
    (fault, *_) = check_data(memory_set(image_size=value))
    assert fault.key == "data.image_size"
    assert message in str(fault)


@pytest.mark.parametrize(("fit", "size"), [("pad", [11, 24]), ("resize", [6, 24]), ("resize", (24, 24))])
def test_sets_in_memory_are_fitted_as_by_torchvision(fit: str, size: list[int]) -> None:
    data = memory_set(image_size=size, fit=fit)
    images = open_data(data, 1).evaluation["test"]._images.images
    given = read_digits(data).test.images
    if fit == "pad":
        left, top = (size[1] - 8) // 2, (size[0] - 8) // 2
        expected = v2.functional.pad(given, [left, top, size[1] - 8 - left, size[0] - 8 - top])
    else:
        expected = v2.functional.resize(given, list(size))
    assert (images.int() - expected.int()).abs().max() <= (0 if fit == "pad" else 1)


def test_the_smallest_size_enlarges_only_short_sides() -> None:
    layers = ["CONV3-4 p0", "POOL4", "CONV3-4 p0", "GAP", "FC-{num_classes}"]
    model = {"_target_": "convoy.models.chain.Chain", "layers": layers}
    network = build_model(model, num_classes=3, in_channels=1, image_size=(14, 50))
    assert takes_image_size(network, 1, (14, 50))
    assert smallest_image_size(network, 1, (5, 50)) == Sides(14, 50)
    assert smallest_image_size(network, 1, (50, 5)) == Sides(50, 14)
    assert smallest_image_size(network, 1, 5) == Sides(14, 14)


def test_ten_crops_are_those_of_torchvision() -> None:
    views = views_of("tencrop", memory_set(image_size=[28, 42]))
    assert views.image_size == (32, 48)
    images = torch.rand(2, 1, 32, 48)
    expected = torch.stack(v2.functional.ten_crop(images, [28, 42]))
    found = [view(images) for view in views.functions]
    assert len(found) == 10
    assert all(any(torch.equal(one, other) for other in expected) for one in found)
    shapes = {
        tuple(view(images).shape[2:]) for view in views_of("multiscale", memory_set(image_size=[28, 42])).functions
    }
    assert shapes == {(24, 36), (28, 42), (32, 48)}


def test_a_network_is_trained_evaluated_and_exported(convoy: Convoy) -> None:
    done = convoy("train", *TINY, *WIDE, "trainer.max_epochs=1")
    assert done.code == 0, done.err
    assert "1x20x36" in done.out + done.err
    assert json.loads(Path("run/ledger.json").read_text())["input_shape"] == [1, 20, 36]
    for tta in ("flip", "tencrop"):
        done = convoy("evaluate", "run=run", f"tta={tta}", folder=None)
        assert done.code == 0, done.err
    done = convoy("evaluate", "run=run", "tta=multiscale", folder=None)
    assert "the network does not take images of 17x31; use tta=tencrop or tta=flip" in done.err
    done = convoy("export", "run=run", "format=safetensors", folder=None)
    assert done.code == 0, done.err

    run = TrainedRun.open("run")
    image = read_digits(run.config.data).test.images[0]
    Image.fromarray(image[0].numpy(), "L").save("digit.png")
    resized = v2.functional.resize(image, [20, 36]) if run.config.data.fit == "resize" else None
    assert resized is not None
    with torch.inference_mode():
        network_input = (resized[None] / 255 - run.config.data.mean[0]) / run.config.data.std[0]
        expected = run.network(network_input).softmax(1)[0]
    for source in ("run=run", "checkpoint=run/export/best.safetensors"):
        done = convoy("predict", source, "digit.png", "format=jsonl", "top=1", folder=None)
        assert done.code == 0, done.err
        (best,) = json.loads(done.out)["classes"]
        assert best["probability"] == pytest.approx(float(expected.max()), abs=0.01)


def test_a_run_resumes_within_an_epoch_with_equal_weights(convoy: Convoy, digits_folder: Path) -> None:
    words = (
        *TINY,
        "model.layers=[CONV3-8,POOL4,FC-3]",
        f"data={digits_folder}",
        "data.image_size=[16,28]",
        "data.augment.random_resized_crop=[0.3,1.0]",
        "data.augment.rand_augment=[2,9]",
        "data.augment.erasing=0.5",
        "trainer.global_batch_size=8",
        "scheduler=constant",
    )
    done = convoy("train", *words, folder="whole")
    assert done.code == 0, done.err
    assert convoy("train", *words, "trainer.max_steps=5", folder="parts").code == 0
    assert convoy("train", "resume=parts", "trainer.max_steps=null").code == 0
    whole, parts = (
        torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"] for name in ("whole", "parts")
    )
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
