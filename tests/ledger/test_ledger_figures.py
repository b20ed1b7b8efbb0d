"""Parameters, MACs and kept bytes against torch's own counters and real steps, for many architectures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import timm
import torch
from tests.ledger.real_step import RealStep
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from convoy.ledger.build_ledger import build_ledger
from convoy.ledger.ledger_object import Ledger
from convoy.ledger.skeleton import without_weights

BATCH = 2

TORCHVISION: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "alexnet": (models.alexnet, 224),
    "vgg16": (models.vgg16, 64),
    "resnet18": (models.resnet18, 224),
    "resnet50": (models.resnet50, 96),
    "resnet152": (models.resnet152, 64),
    "googlenet": (lambda: models.googlenet(init_weights=False), 224),
    "inception_v3": (lambda: models.inception_v3(init_weights=False), 299),
    "densenet161": (models.densenet161, 64),
    "mobilenet_v2": (models.mobilenet_v2, 224),
    "efficientnet_b0": (models.efficientnet_b0, 224),
    "shufflenet_v2_x1_0": (models.shufflenet_v2_x1_0, 96),
    "convnext_tiny": (models.convnext_tiny, 96),
}
"""Those with auxiliary classifiers are built with them. The second number is the image's side in pixels."""

TIMM = {
    "resnet26d": 96,
    "resnext26ts": 96,
    "seresnet18": 96,
    "regnety_002": 96,
    "mobilenetv3_small_050": 96,
    "efficientnet_lite0": 96,
    "vgg11_bn": 64,
    "nf_resnet26": 96,
    "ghostnet_050": 96,
    "convnext_atto": 96,
    "res2net50_14w_8s": 64,
    "vit_tiny_patch16_224": 224,
    "swin_tiny_patch4_window7_224": 224,
}
"""Of which the last two are no convolutional networks: attention, and windows of it."""


QUICK = {
    "alexnet",
    "vgg16",
    "resnet18",
    "mobilenet_v2",
    "convnext_tiny",
    "regnety_002",
    "nf_resnet26",
    "vit_tiny_patch16_224",
}
NETWORKS = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in (*TORCHVISION, *TIMM)]


def built(name: str) -> tuple[Callable[[], nn.Module], int]:
    if name in TORCHVISION:
        return TORCHVISION[name]
    return lambda: timm.create_model(name), TIMM[name]


def check_figures(build: Callable[[], nn.Module], side: int, sample: tuple[int, ...] | None = None) -> Ledger:
    shape = sample or (3, side, side)
    model = without_weights(build)
    ledger = build_ledger(model, shape)
    assert ledger.total("params") == sum(parameter.numel() for parameter in model.parameters())
    with torch.device("meta"):
        reference = build().train()
        with FlopCounterMode(display=False) as forward:
            outputs = reference(torch.empty(BATCH, *shape))
        with FlopCounterMode(display=False) as backward:
            leaves = torch.utils._pytree.tree_leaves(outputs)
            torch.stack([leaf.sum() for leaf in leaves if leaf.requires_grad]).sum().backward()
    assert ledger.total("macs") * BATCH * 2 == forward.get_total_flops()
    if all(getattr(module, "groups", 1) == 1 for module in model.modules()):
        # Of grouped convolutions FlopCounterMode counts the weights' gradient as if there were no groups.
        assert ledger.total("training_macs") * BATCH * 2 == forward.get_total_flops() + backward.get_total_flops()
    return ledger


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_and_macs_are_those_that_torch_counts(name: str) -> None:
    check_figures(*built(name))


@pytest.mark.parametrize("name", NETWORKS)
def test_kept_bytes_are_those_of_a_real_step_module_by_module(name: str) -> None:
    build, side = built(name)
    torch.manual_seed(0)
    real = RealStep(build(), (3, side, side), BATCH).kept
    ledger = build_ledger(without_weights(build), (3, side, side))
    mine: Counter[str] = Counter()
    for row in ledger.rows:
        mine[row.module] += BATCH * row.saved_bytes + row.saved_fixed_bytes
    assert {module: size for module, size in mine.items() if size} == dict(real)
