"""What stays as it is while the rest is trained."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import TINY, Run
from torch import nn

from convoy.config.compose import compose, to_config
from convoy.config.faults import UserError
from convoy.ledger.skeleton import without_weights
from convoy.models.building.build import construct_model
from convoy.models.building.freezing import head_of

Convoy = Callable[..., Run]
HEADS = {
    "lenet5": 32,
    "alexnet_2012": 224,
    "vgg11_bn": 224,
    "googlenet": 224,
    "inception_v4": 299,
    "squeezenet1_1": 224,
    "densenet121": 224,
    "mobilenet_v3_small": 224,
    "shufflenet_v1": 224,
    "preact_resnet110": 32,
    "seresnet50": 224,
    "nasnet": 331,
    "efficientnet_b0": 224,
}
"""Networks of each library and family, with an image size that they take."""


def model_of(option: str, *more: str) -> dict[str, Any]:
    return to_config(compose([f"model={option}", *more])).model


@pytest.mark.parametrize("option", HEADS)
def test_the_head_is_the_layer_with_weights_that_runs_last(option: str) -> None:
    model = model_of(option, *(["model.aux_logits=false"] if option == "googlenet" else []))
    channels, size = (1 if option == "lenet5" else 3), HEADS[option]
    network = without_weights(
        lambda: construct_model(model, num_classes=7, in_channels=channels, image_size=size)
    ).eval()
    ran: list[str] = []
    for name, module in network.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.no_grad():
        network(torch.empty(2, channels, size, size, device="meta"))
    assert head_of(network, 7) == ran[-1]


def test_a_network_that_ends_otherwise_has_no_head_to_find() -> None:
    with pytest.raises(
        UserError, match=r"model.freeze=features: the last layer with weights \(0\) does not compute the 7"
    ):
        head_of(nn.Sequential(nn.Linear(4, 14), nn.MaxPool1d(2)), 7)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.freeze=feature"], "model.freeze=feature: must be null, features or a list of modules"),
        (["model.freez=features"], "did you mean model.freeze?"),
        (["model.freeze=[featurs]"], "model.freeze=featurs: the network has no such module; did you mean features?"),
        (["model.freeze=[features,classifier]"], "leaves nothing to train"),
        (["model=googlenet", "model.freeze=features", "model.aux_logits=true"], "write model.aux_logits=false"),
    ],
)
def test_a_wrong_freeze_is_reported(convoy: Convoy, tmp_path: Path, words: list[str], message: str) -> None:
    done = convoy("train", *TINY, *words, f"folder={tmp_path / 'run'}")
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "run").exists()


LAYERS = "model.layers=['CONV3-8 bn',POOL2,DROPOUT0.3,'FC-32 bn',FC-10]"


def trained(convoy: Convoy, folder: Path, *words: str) -> tuple[str, dict[str, torch.Tensor], dict[str, Any]]:
    tiny = [LAYERS if word.startswith("model.layers") else word for word in TINY]
    done = convoy("train", *tiny, *words, f"folder={folder}")
    assert done.code == 0, done.err
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return done.out, checkpoint["state_dict"], checkpoint["optimizer_states"][0]


def test_frozen_features_and_their_running_statistics_do_not_change(convoy: Convoy, tmp_path: Path) -> None:
    before = trained(convoy, tmp_path / "before")[1]
    weights = f"model.pretrained={tmp_path / 'before' / 'checkpoints' / 'last.ckpt'}"
    norms = ["ledger.norms_every_steps=1", "optimizer.weight_decay=0.01"]
    out, after, optimizer = trained(convoy, tmp_path / "after", weights, "model.freeze=features", *norms)

    moved = {name for name in before if not torch.equal(before[name], after[name])}
    heads = {"network.classifier.4.weight", "network.classifier.4.bias"}
    assert moved == heads
    assert {name for name in before if "running_var" in name}, "there are batch norms"
    assert sorted(len(group["params"]) for group in optimizer["param_groups"])[-1] <= 2
    assert len(optimizer["state"]) == 2
    count = sum(value.numel() for name, value in before.items() if "running" not in name and "num_b" not in name)
    head = sum(before[name].numel() for name in heads)
    assert f"{count:,} parameters, of which {count - head:,} are frozen" in out
    with (tmp_path / "after" / "norms.csv").open() as file:
        gradients = {row["module"]: float(row["gradient_norm"]) for row in csv.DictReader(file)}
    assert {module for module, norm in gradients.items() if norm > 0} == {"classifier.4"}


def test_named_modules_are_frozen_and_the_others_trained(convoy: Convoy, tmp_path: Path) -> None:
    before = trained(convoy, tmp_path / "before")[1]
    weights = f"model.pretrained={tmp_path / 'before' / 'checkpoints' / 'last.ckpt'}"
    after = trained(convoy, tmp_path / "after", weights, "model.freeze=[features]")[1]
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.startswith("network.classifier")}


def test_random_features_print_a_notice(convoy: Convoy, tmp_path: Path) -> None:
    out = trained(convoy, tmp_path / "run", "model.freeze=features")[0]
    assert "the frozen weights keep their random values; load trained ones with model.pretrained=<checkpoint>" in out


@pytest.mark.slow
def test_the_planner_accounts_for_frozen_layers(convoy: Convoy) -> None:
    plan = ["plan", "model=vgg11", "data=imagenet", "hardware=a40", "format=json"]
    whole, frozen = (json.loads(convoy(*plan, *more).out) for more in ([], ["model.freeze=features"]))
    # SGD's momentum of the last layer alone: 4096 x 1000 weights and 1000 biases, each a block of whole 512 bytes.
    assert frozen["categories"]["optimizer_state"] == 4 * 4096 * 1000 + 4096
    assert frozen["peak_allocated_bytes"] < whole["peak_allocated_bytes"] / 2
