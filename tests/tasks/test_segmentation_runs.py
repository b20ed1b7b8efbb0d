"""Commands on runs of the segmentation task."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import Run
from torch.nn import functional

from convoy.data.data_module import ImageData
from convoy.data.targets import IGNORED
from convoy.evaluation.trained_run import TrainedRun
from convoy.tasks.construction import build_task
from convoy.training.preflight import read

Convoy = Callable[..., Run]

TRAIN = (
    *("data=segmentation_folder", "data.root=set", "data.classes=[sky,red,green]"),
    *("data.image_size=[32,40]", "data.augment.random_resized_crop=null", "data.augment.random_crop=true"),
    *("model=unet", "model.width=4", "model.depth=2", "model.batch_norm=true", "loss=cross_entropy_dice"),
    *("optimizer=adamw", "optimizer.lr=0.02", "trainer.max_epochs=16", "trainer.global_batch_size=4"),
    *("trainer.precision=32", "trainer.gpus=0", "hardware.cpu_threads=1", "logger=csv"),
)


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Write images with a rectangle of one of two classes, whose first row is not counted."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 4), ("test", 5)):
        for index in range(count):
            mask = np.zeros((32, 40), np.uint8)
            top, left = generator.integers(3, 18, 2)
            mask[top : top + 10, left : left + 14] = 1 + index % 2
            pixels = generator.integers(0, 60, (32, 40, 3)) + 150 * np.stack([mask == 1, mask == 2, mask == 3], -1)
            mask[0] = IGNORED
            for kind, array in (("images", pixels), ("masks", mask)):
                path = Path("set") / split / kind / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.astype(np.uint8)).save(path)


@pytest.mark.usefixtures("masks")
def test_a_run_learns_and_its_commands_agree(convoy: Convoy) -> None:
    done = convoy("train", *TRAIN)
    assert done.code == 0, done.err
    summary = done.summary()
    assert summary["monitor"] == "val/miou"
    assert summary["test/miou"] > 0.6
    with Path("run/classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["sky", "red", "green"]
    assert sum(int(row["pixels"]) for row in rows) == 5 * 31 * 40
    assert summary["test/iou_per_class"]["red"] == pytest.approx(float(rows[1]["IoU"]))

    done = convoy("evaluate", "run=run", "bootstrap=20", folder=None)
    assert done.code == 0, done.err
    assert "mIoU" in done.out
    record = json.loads(Path("run/evaluation-segmentation_folder-test.json").read_text())
    assert record["test/miou"] == pytest.approx(summary["test/miou"])

    done = convoy("predict", "set/test/images/0.png", "run=run", "format=jsonl", folder=None)
    assert done.code == 0, done.err
    (line,) = done.out.strip().splitlines()
    shares = {one["class"]: one["share"] for one in json.loads(line)["classes"]}
    assert sum(shares.values()) == pytest.approx(1)

    done = convoy("report", "run=run", folder=None)
    assert done.code == 0, done.err
    assert "IoU per class" in Path("run/report.html").read_text()
    done = convoy("probe", "run=run", folder=None)
    assert done.code == 2
    assert "run=run: has targets of the kind mask; a probe needs one target per image" in done.err


@pytest.mark.usefixtures("masks")
def test_weights_of_classes_follow_from_the_training_masks() -> None:
    # One image has only sky; class 2 is absent from half of the images.
    Image.fromarray(np.zeros((32, 40), np.uint8)).save("set/train/masks/0.png")
    masks = np.stack([np.asarray(Image.open(path)) for path in sorted(Path("set/train/masks").iterdir())])
    config = read([*TRAIN, "loss.terms.cross_entropy.weight=median_frequency", "loss.factors.dice=0"])
    data = ImageData(config.data, seed=1, micro_batch_size=4, accumulation=1, eval_batch_size=4)
    data.open()
    task = build_task(config, data.targets, data.class_counts)
    images = masks.reshape(len(masks), -1)
    frequencies = []
    for index in range(3):
        having = images[(images == index).any(1)]
        frequencies.append((having == index).sum() / (having != IGNORED).sum())
    weight = torch.tensor(np.median(frequencies) / frequencies).float()
    logits, targets = torch.randn(2, 3, 32, 40), torch.from_numpy(masks[:2]).long()
    expected = functional.cross_entropy(logits, targets, weight, ignore_index=IGNORED)
    assert task.loss(logits, targets).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.usefixtures("masks")
def test_views_are_averaged_at_the_places_of_the_image(convoy: Convoy) -> None:
    assert convoy("train", *TRAIN).code == 0
    assert convoy("evaluate", "run=run", "tta=flip", folder=None).code == 0
    record = json.loads(Path("run/evaluation-segmentation_folder-test-flip.json").read_text())
    run = TrainedRun.open("run", "best", "outputs")
    right = counted = 0
    for images, targets in run.open_data().batches("test"):
        with torch.no_grad():
            probabilities = run.network(images).softmax(1) + run.network(images.flip(-1)).softmax(1).flip(-1)
        right += int((probabilities.argmax(1) == targets)[targets != IGNORED].sum())
        counted += int((targets != IGNORED).sum())
    assert record["test/pixel_accuracy"] == pytest.approx(right / counted)
    assert convoy("evaluate", "run=run", "tta=multiscale", folder=None).code == 0
    record = json.loads(Path("run/evaluation-segmentation_folder-test-multiscale.json").read_text())
    # The network has seen objects of one size only.
    assert record["test/pixel_accuracy"] > 0.7
    done = convoy("evaluate", "run=run", "tta=tencrop", folder=None)
    assert done.code == 2
    assert "tta=tencrop: the outputs of mask targets can't be averaged over these views; use tta=flip or" in done.err


@pytest.mark.slow
@pytest.mark.usefixtures("masks")
@pytest.mark.parametrize("model", ["unet", "lraspp_mobilenet_v3_large", "unet_encoder", "segnet"])
def test_an_exported_network_decides_the_same(convoy: Convoy, model: str) -> None:
    if model == "unet_encoder":
        pytest.importorskip("segmentation_models_pytorch")
    words = [word for word in TRAIN if model == "unet" or not word.startswith("model")]
    more = {
        "unet_encoder": ["model.encoder=test_resnet", "+model.encoder_depth=4", "+model.decoder_channels=[32,16,8,4]"]
    }
    done = convoy("train", *words, f"model={model}", *more.get(model, []), "trainer.max_epochs=1")
    assert done.code == 0, done.err
    done = convoy("export", "run=run", "format=onnx", folder=None)
    assert done.code == 0, done.err
    import onnxruntime

    images = torch.rand(5, 3, 32, 40)
    network = TrainedRun.open("run", "best", "outputs").network.eval()
    session = onnxruntime.InferenceSession("run/export/best.onnx")
    (name,) = [one.name for one in session.get_inputs()]
    found = torch.from_numpy(session.run(None, {name: images.numpy()})[0])
    with torch.no_grad():
        expected = network(images)
    assert found.shape == expected.shape
    assert functional.cosine_similarity(found.flatten(1), expected.flatten(1)).min() > 0.999
