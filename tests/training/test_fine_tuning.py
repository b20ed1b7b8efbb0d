"""Layer decay against timm, unfreezing by epoch, fixed running statistics, and weights of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import timm.optim
import torch
from tests.conftest import TINY, Run, read_rows
from tests.training.test_schedule import STOPPING
from torch import nn

from convoy.models.blocks import depths
from convoy.optim.build_optimizer import build_optimizer

Convoy = Callable[..., Run]
LAYERS = "model.layers=['CONV3-8 bn',POOL4,DROPOUT0.3,'FC-32 bn',FC-10]"
WORDS = [LAYERS if word.startswith("model.layers") else word for word in TINY]
STOP = "+callback.stop={_target_:stopping.StopAt,step:13}"


def weights(folder: str, name: str = "last") -> dict[str, torch.Tensor]:
    content = torch.load(Path(folder) / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return {key.removeprefix("network."): value for key, value in content["state_dict"].items()}


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_rates_by_depth_are_those_of_timm(name: str) -> None:
    with torch.device("meta"):
        network = timm.create_model(name)
    node: dict[str, Any] = {
        "_target_": "torch.optim.SGD",
        "lr": 0.1,
        "weight_decay": 0.01,
        "decay_norms_and_biases": False,
        "layer_decay": 0.7,
    }
    ours = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in build_optimizer(node, network).param_groups
        for parameter in group["params"]
    }
    theirs = {
        id(parameter): (0.1 * group["lr_scale"], group["weight_decay"])
        for group in timm.optim.param_groups_layer_decay(network, 0.01, layer_decay=0.7)
        for parameter in group["params"]
    }
    assert ours == {key: pytest.approx(value) for key, value in theirs.items()}


def test_layers_outside_of_blocks_count_one_each() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 4), nn.Linear(4, 2))
    assert list(depths(network).values()) == [0, 0, 0, 0, 1, 1, 2, 2]


def test_layer_decay_trains_and_logs_the_rate_of_the_head(convoy: Convoy) -> None:
    run = convoy("train", *WORDS, "optimizer.layer_decay=0.5", "scheduler=constant", "optimizer.lr=0.04")
    assert run.code == 0, run.err
    assert {float(row["lr"]) for row in run.rows() if row["lr"]} == {0.04}
    groups = run.checkpoint()["optimizer_states"][0]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([0.01, 0.02, 0.04])


@pytest.mark.slow
def test_frozen_modules_train_from_their_epoch_on_and_resume_within_it(convoy: Convoy) -> None:
    Path("stopping.py").write_text(STOPPING)
    words = (*WORDS, "model.freeze=features", "model.unfreeze_epoch=1", "trainer.log_every_steps=1", STOP)
    assert convoy("train", *words, folder="parts").code == 143
    assert convoy("train", "resume=parts").code == 0
    whole = convoy("train", *words, folder="whole")
    assert "epoch 1: 16,576 parameters are frozen until a later epoch" in whole.out
    assert "epoch 2: 0 parameters are frozen" in whole.out
    assert read_rows(Path("parts")) == read_rows(Path("whole"))
    last = weights("whole")
    assert all(torch.equal(value, last[name]) for name, value in weights("parts").items())
    one = weights(str(convoy("train", *words, "trainer.max_epochs=1", "trainer.test=false", folder="one").folder))
    none = weights(str(convoy("train", *words, "trainer.max_steps=1", "optimizer.lr=1e-30", folder="none").folder))
    moved = {name for name in one if not torch.equal(one[name], none[name])}
    assert moved == {"classifier.4.weight", "classifier.4.bias"}  # in the first epoch
    assert {name for name in last if torch.equal(last[name], none[name])} == set()


@pytest.mark.slow
def test_frozen_modules_of_two_processes_stay_in_step(shell: Convoy) -> None:
    words = (*WORDS, "trainer.processes=2", "model.freeze=features", "model.unfreeze_epoch={features: 1}")
    run = shell("train", *words)
    assert run.code == 0, run.err
    assert not torch.equal(weights("run")["features.0.weight"], weights("run")["features.0.weight"] * 0)
    frozen = shell("train", *words, "trainer.max_epochs=1", folder="one")
    assert frozen.code == 0, frozen.err
    start = shell("train", *words, "trainer.max_steps=1", "optimizer.lr=1e-30", folder="none")
    assert start.code == 0, start.err
    one, none = weights("one"), weights("none")
    assert torch.equal(one["features.0.weight"], none["features.0.weight"])
    assert not torch.equal(one["classifier.4.weight"], none["classifier.4.weight"])


@pytest.mark.slow
def test_running_statistics_stay_fixed_while_weights_move(convoy: Convoy) -> None:
    assert convoy("train", *WORDS, folder="first").code == 0
    more = ("model.pretrained=first", "model.freeze_norms=true")
    tuned = convoy("train", *WORDS, *more, folder="second")
    assert tuned.code == 0, tuned.err
    before, after = weights("first", "best"), weights("second")
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if "running" in name or "num_batches" in name}


def test_a_head_for_other_classes_is_reported_in_one_line(convoy: Convoy, caplog: pytest.LogCaptureFixture) -> None:
    assert convoy("train", *WORDS, "trainer.max_steps=1", folder="first").code == 0
    layers = "model.layers=['CONV3-8 bn',POOL4,DROPOUT0.3,'FC-32 bn',FC-2]"
    data = "data.train={_target_:torchvision.datasets.FakeData,size:64,image_size:[1,32,32],num_classes:2}"
    words = [layers if word.startswith("model.layers") else word for word in TINY]
    source = (
        "data=dataset",
        data,
        "data.num_classes=2",
        "data.channels=1",
        "data.image_size=32",
        "data.mean=[0.5]",
        "data.std=[0.5]",
    )
    tuned = convoy(
        "train", *words, *source, "trainer.global_batch_size=16", "trainer.max_steps=1", "model.pretrained=first"
    )
    assert tuned.code == 0, tuned.err
    (line,) = [record.getMessage() for record in caplog.records if "not loaded" in record.getMessage()]
    assert line == (
        "first/checkpoints/best.ckpt: classifier.4.bias, classifier.4.weight not loaded; "
        "they keep their initial values: the head has 2 outputs, in the file 10"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("optimizer.layer_decay=0",), "optimizer.layer_decay=0: must be above 0"),
        (("optimizer.layer_decay=75",), "optimizer.layer_decay=75: must be at most 1"),
        (("model.unfreeze_epoch=2",), "model.unfreeze_epoch=2: needs frozen modules; add model.freeze=features"),
        (("model.freeze=features", "model.unfreeze_epoch=0.5"), "must be epochs; write null, a whole number from 1"),
        (("model.freeze=features", "model.unfreeze_epoch={feature: 1}"), "no such frozen module; did you mean feature"),
        (("model.freeze_norms=yes",), "model.freeze_norms"),
        (("model.pretrained=.",), "model.pretrained=.: is not a run's folder"),
        (("model.pretrained=nothing",), "no such file or run; write true for the library's weights, a run's folder"),
    ],
)
def test_mistakes(convoy: Convoy, words: tuple[str, ...], message: str) -> None:
    refused = convoy("train", *WORDS, *words)
    assert refused.code == 2
    assert message in refused.err
    assert not refused.folder.exists()
