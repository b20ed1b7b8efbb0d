"""Runs on masks, key points and degraded images: resumed in the middle of an epoch, with two processes, and planned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import Run, read_rows

CPU = (
    "logger=csv",
    "trainer.gpus=0",
    "trainer.precision=32",
    "trainer.global_batch_size=4",
    "trainer.log_every_steps=1",
    "hardware.cpu_threads=1",
    "ledger.measure_steps=0",
    "data.val_fraction=0.2",
    "scheduler=constant",
)
KINDS = {
    "masks": (
        "data=segmentation_folder",
        "data.root=set",
        "data.classes=[a,b,c]",
        "data.image_size=[16,24]",
        "data.augment.random_resized_crop=null",
        "data.augment.scale_jitter=[16,32]",
        "data.augment.rotation=20",
        "model=unet",
        "model.width=4",
        "model.depth=1",
        "model.batch_norm=false",
        "model.dropout=0",
    ),
    "points": (
        "data=keypoint_table",
        "data.file=set/points.csv",
        "data.image_column=image",
        "data.image_size=32",
        "task.output=coordinates",
        "model=squeezenet1_1",
        "+model.dropout=0.0",
    ),
    "images": (
        "data=super_resolution",
        "data.root=set/images",
        "data.image_size=8",
        "data.patches_per_image=1",
        "data.degradation.scale=2",
        "data.degradation.noise=5",
        "model=espcn",
    ),
}


@pytest.fixture
def _images(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = ["image,left_x,left_y,right_x,right_y"]
    for index in range(15):
        for kind, shape in (("images", (32, 48, 3)), ("masks", (32, 48))):
            path = tmp_path / "set" / kind / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = generator.integers(0, 3 if kind == "masks" else 256, shape, dtype=np.uint8)
            Image.fromarray(values).save(path)
        rows.append(f"images/{index}.png,{index},10,{2 * index},{index + 1}")
    (tmp_path / "set" / "points.csv").write_text("\n".join(rows) + "\n")


@pytest.mark.usefixtures("_images")
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_resumed_within_an_epoch_ends_as_an_undisturbed_one(kind: str, convoy: Callable[..., Run]) -> None:
    words = (*KINDS[kind], *CPU)
    whole = convoy("train", *words, "trainer.max_steps=7", folder="whole")
    assert whole.code == 0, whole.err
    begun = convoy("train", *words, "trainer.max_steps=4", "trainer.checkpoint_every_steps=1", folder="begun")
    assert begun.code == 0, begun.err
    resumed = convoy("train", "resume=begun", "trainer.max_steps=7", folder="begun")
    assert resumed.code == 0, resumed.err
    first, second = (run.checkpoint()["state_dict"] for run in (whole, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    losses = [[row["train/loss"] for row in read_rows(run.folder) if row["train/loss"]] for run in (whole, resumed)]
    assert losses[0] == losses[1]


@pytest.mark.usefixtures("_images")
@pytest.mark.parametrize(
    "network",
    [
        ("model=lenet5", "model.freeze=features", "data.channels=1", "data.mean=[0.5]", "data.std=[0.5]"),
        ("model=timm", "model.name=test_resnet"),
    ],
    ids=["chain", "timm"],
)
def test_a_classification_network_has_two_outputs_per_point(
    network: tuple[str, ...], convoy: Callable[..., Run]
) -> None:
    words = (*KINDS["points"][:5], *network, *CPU, "trainer.max_steps=2")
    done = convoy("train", *words)
    assert done.code == 0, done.err
    matrices = [value for value in done.checkpoint()["state_dict"].values() if value.ndim == 2]
    assert len(matrices[-1]) == 4
    for verb in (("evaluate", "run=run", "split=val"), ("export", "run=run", "output=net.pt2"), ("plan", *words)):
        after = convoy(*verb)
        assert after.code == 0, after.err
    records = convoy("predict", "run=run", "set/images", "output=points", folder=None)
    assert records.code == 0, records.err
    assert len(list(Path("points").glob("*.png"))) == 15


@pytest.mark.slow
@pytest.mark.usefixtures("_images")
@pytest.mark.parametrize("kind", ["masks", "points"])
def test_two_processes_train_as_one(kind: str, shell: Callable[..., Run]) -> None:
    # Without rotations: each rank's loss is the mean over its counted pixels, of which all have equally many then.
    words = (*KINDS[kind], *CPU, "trainer.max_steps=3", "data.augment.rotation=0")
    one = shell("train", *words, folder="one")
    assert one.code == 0, one.err
    two = shell("train", *words, "trainer.processes=2", folder="two")
    assert two.code == 0, two.err
    first, second = (run.checkpoint()["state_dict"] for run in (one, two))
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=1e-5, rtol=1e-4)
    for row, other in zip(one.rows(), two.rows(), strict=True):
        assert {name: value == "" for name, value in row.items()} == {k: v == "" for k, v in other.items()}
        for name, value in row.items():
            if value:
                assert float(other[name]) == pytest.approx(float(value), rel=1e-3, abs=1e-5), name
