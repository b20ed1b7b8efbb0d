"""Dropped residual branches: per image, with a probability that grows with depth, and not in evaluation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import TINY, Run, read_rows
from tests.training.test_schedule import STOPPING
from torch import nn
from torchvision.models import resnet18

from convoy.models.building.stochastic_depth import drop_branches
from convoy.models.preactivation import PreactivationBlock, PreactivationResNet
from convoy.models.residual import CifarResNet

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: resnet18(num_classes=10),
    "resnet20": lambda: CifarResNet(20, 10),
    "preactivation": lambda: PreactivationResNet(2, 10, bottleneck=True),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_evaluation_and_the_state_dict_do_not_change(name: str) -> None:
    torch.manual_seed(0)
    plain = NETWORKS[name]().eval()
    dropping = copy.deepcopy(plain)
    drop_branches(dropping, 0.5)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(plain(images), dropping(images))
    assert list(plain.state_dict()) == list(dropping.state_dict())
    assert not torch.equal(plain.train()(images), dropping.train()(images))


def test_a_branch_is_dropped_per_image_or_divided_by_its_probability() -> None:
    torch.manual_seed(0)
    block = PreactivationBlock(4, 4, 1, bottleneck=False, dropout=0.0).train()
    images = torch.randn(64, 4, 8, 8)
    branch = block(images) - images
    drop_branches(block, 0.25)
    copied = copy.deepcopy(block)
    found = copied(images) - images
    dropped = found.flatten(1).abs().amax(1) < 1e-6
    assert 4 <= int(dropped.sum()) <= 28  # 16 expected, within four standard deviations
    torch.testing.assert_close(found[~dropped], branch[~dropped] / 0.75, rtol=1e-4, atol=1e-5)


def test_the_probability_grows_linearly_to_that_of_the_last_block() -> None:
    network = resnet18()
    drop_branches(network, 0.4)
    found = [module.p for name, module in network.named_modules() if name.endswith("stochastic_depth")]
    assert found == pytest.approx([0.05 * block for block in range(1, 9)])


@pytest.mark.slow
def test_draws_follow_from_seed_and_step(convoy: Callable[..., Run]) -> None:
    Path("stopping.py").write_text(STOPPING)
    words: list[Any] = [word for word in TINY if "layers" not in word]
    words += ["model=resnet20", "model.depth=8", "model.stochastic_depth=0.5", "trainer.max_steps=8"]
    stop = "+callback.stop={_target_:stopping.StopAt,step:5}"
    assert convoy("train", *words, stop, folder="parts").code == 143
    assert convoy("train", "resume=parts").code == 0
    assert convoy("train", *words, stop, folder="whole").code == 0
    assert read_rows(Path("parts")) == read_rows(Path("whole"))
    ends = [torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True)["state_dict"] for name in ("parts", "whole")]
    assert all(torch.equal(ends[0][name], value) for name, value in ends[1].items())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model.stochastic_depth=1",), "model.stochastic_depth=1: must be at least 0 and below 1"),
        (("model.stochastic_depth=0.2",), "model.stochastic_depth=0.2: finds no residual blocks"),
        (("model=plain20", "model.stochastic_depth=0.2"), "finds no residual blocks"),
    ],
)
def test_mistakes(convoy: Callable[..., Run], words: tuple[str, ...], message: str) -> None:
    tiny = [word for word in TINY if "layers" not in word or "model=plain20" not in words]
    refused = convoy("train", *tiny, *words)
    assert refused.code == 2
    assert message in refused.err
