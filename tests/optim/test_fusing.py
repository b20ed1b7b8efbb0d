"""Fused optimizers, held to the same ones taken step by step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from convoy.optim.build_optimizer import build_optimizer
from convoy.optim.fusing import is_fused, may_fuse

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}
ADAMW = {"_target_": "torch.optim.AdamW", "lr": 0.01, "weight_decay": 0.05, "decay_norms_and_biases": False}
ADAM = {"_target_": "torch.optim.Adam", "lr": 0.01}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    # No bias before the batch norm: its gradient is rounding noise, of which Adam would make whole steps.
    first = (nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(*first, nn.Conv2d(8, 6, 1), nn.Flatten(), nn.Linear(6 * 36, 4)).to(
        memory_format=torch.channels_last
    )


def trained(node: dict[str, Any], *, fuse: bool, steps: int = 6) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = network()
    optimizer = build_optimizer(node, model, fuse=fuse)
    for step in range(steps):
        images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        model(images.to(memory_format=torch.channels_last)).square().sum().div(100).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


@pytest.mark.parametrize("node", [SGD, ADAMW, ADAM], ids=lambda node: node["_target_"])
def test_a_fused_optimizer_trains_the_same_weights(node: dict[str, Any]) -> None:
    (one, fused), (other, _) = trained(node, fuse=True), trained(node, fuse=False)
    assert is_fused(fused)
    for ours, theirs, before in zip(one.parameters(), other.parameters(), network().parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
        assert (ours - before).abs().max() > 0.001


def test_gradients_in_another_layout_are_not_paired_with_the_wrong_weights() -> None:
    results = []
    for fuse in (True, False):
        model = network()
        optimizer = build_optimizer(SGD, model, fuse=fuse)
        for parameter in model.parameters():
            values = torch.arange(parameter.numel(), dtype=torch.float32)
            parameter.grad = values.view(parameter.shape)  # contiguous, where the convolution is channels last
        optimizer.step()
        results.append(model[0].weight.detach())
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ({**SGD, "foreach": True}, False),
        ({**ADAMW, "fused": False}, False),
        ({"_target_": "torch.optim.RMSprop", "lr": 0.01}, False),
        ({"_target_": "timm.optim.Lamb", "lr": 0.01}, False),
    ],
    ids=["foreach", "not fused", "RMSprop", "LAMB"],
)
def test_explicit_or_unfusable_optimizers_are_not_fused(node: dict[str, Any], expected: bool) -> None:
    assert is_fused(trained(node, fuse=True, steps=1)[1]) is expected


def test_float16_is_not_fused_where_gradients_are_clipped() -> None:
    assert may_fuse("cuda", "16-mixed", clips=False)
    assert may_fuse("cuda", "bf16-mixed", clips=True)
    assert not may_fuse("cuda", "16-mixed", clips=True)
    assert not may_fuse("mps", "32", clips=False)
