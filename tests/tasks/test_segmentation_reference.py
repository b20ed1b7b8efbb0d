"""The losses of a run are those of the loop in torchvision's references/segmentation/train.py, step by step."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import Run
from torch.nn import functional
from torchvision.models import get_model

from convoy.config.compose import from_saved, to_config
from convoy.data.batches.collate import BatchSpec
from convoy.data.opening.open_data import open_data
from convoy.data.sampling.samplers import TrainingSampler
from convoy.runs.lookup import find_run

STEPS = 8
RATE, MOMENTUM, DECAY, POWER = 0.02, 0.9, 1e-4, 0.9
NAME = "lraspp_mobilenet_v3_large"


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_losses_are_those_of_torchvisions_loop(tmp_path: Path, convoy: Callable[..., Run]) -> None:
    generator = np.random.default_rng(0)
    for index in range(12):
        for kind, shape in (("images", (40, 56, 3)), ("masks", (40, 56))):
            path = tmp_path / "set" / kind / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = generator.integers(0, 4 if kind == "masks" else 256, shape, dtype=np.uint8)
            # The fourth value is not counted.
            Image.fromarray(np.where(values == 3, 255, values) if kind == "masks" else values).save(path)
    torch.manual_seed(0)
    network = get_model(NAME, weights=None, weights_backbone=None, num_classes=3)
    torch.save(network.state_dict(), tmp_path / "start.pt")
    words = (
        *("data=segmentation_folder", f"data.root={tmp_path / 'set'}", "data.classes=[a,b,c]", "data.image_size=32"),
        *("data.val_fraction=0.3", "data.augment.rotation=15"),
        *("model=torchvision_segmentation", f"model.name={NAME}", f"model.pretrained={tmp_path / 'start.pt'}"),
        *("optimizer=sgd", f"optimizer.lr={RATE}", f"optimizer.momentum={MOMENTUM}", "optimizer.nesterov=false"),
        *(f"optimizer.weight_decay={DECAY}", "scheduler=polynomial", f"scheduler.power={POWER}"),
        *("scheduler.warmup_epochs=0", f"trainer.max_steps={STEPS}", "trainer.global_batch_size=4"),
        *("trainer.precision=32", "trainer.log_every_steps=1", "trainer.gpus=0", "hardware.cpu_threads=1"),
        *("logger=csv", "ledger.measure_steps=0", "trainer.test=false"),
    )
    done = convoy("train", *words)
    assert done.code == 0, done.err
    with (done.folder / "metrics.csv").open(newline="") as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]

    config = to_config(from_saved(dict(find_run("run", "outputs").saved_config())))
    opened = open_data(config.data, config.seed)
    sampler = TrainingSampler(opened.sizes["train"], config.seed, 4)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=STEPS, power=POWER)
    network.train()
    expected = []
    for batch in opened.train.batches(sampler, 0, 0, STEPS, BatchSpec(torch.device("cpu"))):
        loss = functional.cross_entropy(network(batch.images)["out"], batch.targets, ignore_index=255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        expected.append(loss.item())
    assert len(losses) == len(expected) == STEPS
    np.testing.assert_allclose(losses, expected, atol=1e-5)
    assert losses[-1] < losses[0]
