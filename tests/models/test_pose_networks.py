"""Networks for key points: published sizes, sizes of their heatmaps, and a step of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from convoy.config.cards import POSE, ModelCard, read_cards
from convoy.config.faults import UserError
from convoy.ledger.build_ledger import build_ledger
from convoy.ledger.skeleton import without_weights
from convoy.models.auxiliary import logits_of
from convoy.models.building.build import construct_model

FOLDER = Path(__file__).parents[2] / "conf" / "model"
CARDS = {name: card for name, card in read_cards(ModelCard).items() if card.family == POSE}
PUBLISHED = {
    "simple_baseline": (34.0, "table 1 of the HRNet paper (Sun et al. 2019), SimpleBaseline with ResNet-50"),
}
"""Millions of parameters."""


def built(name: str, num_classes: int, **changes: Any) -> nn.Module:
    option: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))  # type: ignore[assignment]
    return construct_model({**option, **changes}, num_classes=num_classes, in_channels=3, image_size=64)


@pytest.mark.parametrize("name", CARDS)
def test_a_card_has_the_figures_of_the_ledger(name: str) -> None:
    card = CARDS[name]
    network = without_weights(lambda: built(name, card.num_classes))
    ledger = build_ledger(network, (card.in_channels, card.image_size, card.image_size))
    assert ledger.total("macs") == card.macs
    assert sum(parameter.numel() for parameter in network.parameters()) == card.parameters


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_network_has_the_published_parameters(name: str) -> None:
    parameters = sum(parameter.numel() for parameter in without_weights(lambda: built(name, 17)).parameters())
    assert round(parameters / 1e6, 1) == PUBLISHED[name][0]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *((name, size) for name in CARDS for size in ((64, 64), (192, 256))),
        # Networks that exchange maps of several resolutions, as HRNet does, need multiples of 32.
        *((name, (72, 104)) for name in CARDS if not name.startswith("hrnet")),
    ],
)
def test_heatmaps_have_a_fourth_of_the_sides(name: str, size: tuple[int, int]) -> None:
    with torch.device("meta"):
        network = built(name, 5).eval()
        height, width = network(torch.empty(2, 3, *size)).shape[2:]
    rounding = 1 if name == "stacked_hourglass" else 8
    assert abs(height - size[0] / 4) < rounding
    assert abs(width - size[1] / 4) < rounding


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("simple_baseline", {"backbone": "resnet10t", "channels": 16}),
        ("hrnet_w18_small", {}),
        ("stacked_hourglass", {"channels": 16}),
    ],
)
def test_a_step_changes_every_weight(name: str, changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = built(name, 4, **changes)
    main, stages = logits_of(network(torch.randn(2, 3, 64, 64)))
    assert len(stages) == (1 if name == "stacked_hourglass" else 0)
    sum(maps.square().mean() for maps in (main, *stages)).backward()
    unused = [key for key, parameter in network.named_parameters() if parameter.grad is None]
    # HRNet computes feature maps of all resolutions, of which one is used.
    assert not unused or name == "hrnet_w18_small"


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(UserError, match=r"model\.backbone=resnet5O: timm has no such model"):
        built("simple_baseline", 4, backbone="resnet5O")
