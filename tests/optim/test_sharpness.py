"""Sharpness-aware steps against a plain loop of torch."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from tests.conftest import TINY, Run
from torch import nn

from convoy.data.data_module import ImageData
from convoy.models.building.build import build_model
from convoy.training.preflight import read

Convoy = Callable[..., Run]
WORDS = [word.replace("CONV3-8,POOL4,DROPOUT0.3", "'CONV3-8 bn',POOL4") for word in TINY]
WORDS += ["trainer.max_steps=3", "scheduler=constant", "optimizer.lr=0.1", "optimizer.momentum=0"]
WORDS += ["optimizer.nesterov=false", "optimizer.weight_decay=0"]


def gradients(network: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> list[torch.Tensor]:
    loss = nn.functional.cross_entropy(network(images), targets)
    return list(torch.autograd.grad(loss, list(network.parameters())))


def test_three_steps_are_those_of_the_paper(convoy: Convoy) -> None:
    run = convoy("train", *WORDS, "trainer.sam_radius=0.5")
    assert run.code == 0, run.err
    config = read(WORDS)
    data = ImageData(config.data, seed=1, micro_batch_size=128, accumulation=1, eval_batch_size=9)
    data.open()
    torch.manual_seed(1)
    network = build_model(config.model, **data.model_sizes).to(memory_format=torch.channels_last).train()
    weights = list(network.parameters())
    statistics = []
    for (images, targets), _ in zip(data.training_loader(0), range(3), strict=False):
        found = gradients(network, images, targets)
        statistics = [buffer.clone() for buffer in network.buffers()]
        norm = torch.cat([one.flatten() for one in found]).norm()
        with torch.no_grad():
            start = [weight.clone() for weight in weights]
            for weight, gradient in zip(weights, found, strict=True):
                weight += 0.5 * gradient / norm
        found = gradients(network, images, targets)
        with torch.no_grad():
            for weight, before, gradient in zip(weights, start, found, strict=True):
                weight.copy_(before - 0.1 * gradient)
            for buffer, before in zip(network.buffers(), statistics, strict=True):
                buffer.copy_(before)
    state = run.checkpoint()["state_dict"]
    plain = convoy("train", *WORDS, folder="plain").checkpoint()["state_dict"]
    for name, value in network.state_dict().items():
        torch.testing.assert_close(state[f"network.{name}"], value, rtol=1e-3, atol=1e-5)
    assert (state["network.classifier.0.weight"] - plain["network.classifier.0.weight"]).abs().max() > 1e-3


@pytest.mark.slow
def test_the_planner_counts_a_copy_of_the_weights(convoy: Convoy) -> None:
    words = ("plan", *(word for word in TINY if "gpus" not in word), "hardware=a40", "format=json")
    plan = json.loads(convoy(*words, "trainer.sam_radius=0.05").out)
    # 4 bytes for each of 16,826 parameters in 6 tensors, each a block of whole 512 bytes.
    assert 4 * 16_826 <= plan["categories"]["saved_weights"] < 4 * 16_826 + 6 * 512
    assert "saved_weights" not in json.loads(convoy(*words).out)["categories"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("trainer.sam_radius=0",), "trainer.sam_radius=0.0: must be above 0"),
        (
            ("trainer.sam_radius=0.1", "trainer.micro_batch_size=64"),
            "write trainer.micro_batch_size=null, or trainer.global_batch_size=64",
        ),
    ],
)
def test_mistakes(convoy: Convoy, words: tuple[str, ...], message: str) -> None:
    refused = convoy("train", *TINY, *words)
    assert refused.code == 2
    assert message in refused.err
    assert not refused.folder.exists()
