"""Networks for super-resolution: published sizes, exact output sizes, and a step of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from convoy.config.cards import SUPER_RESOLUTION, ModelCard, read_cards
from convoy.config.faults import UserError
from convoy.ledger.build_ledger import build_ledger
from convoy.ledger.skeleton import without_weights
from convoy.models.building.build import build_model, construct_model

FOLDER = Path(__file__).parents[2] / "conf" / "model"
CARDS = {name: card for name, card in read_cards(ModelCard).items() if card.family == SUPER_RESOLUTION}
KEEPS_SIZE = ("srcnn", "vdsr")

PUBLISHED_WEIGHTS = [
    ("srcnn", {}, 8_032, "Dong et al. 2016 (FSRCNN), table 1"),
    ("srcnn", {"kernel_sizes": [9, 5, 5]}, 57_184, "Dong et al. 2016 (FSRCNN), table 1: SRCNN-Ex"),
    ("fsrcnn", {}, 12_464, "Dong et al. 2016, table 1"),
    ("fsrcnn", {"features": 32, "shrunk": 5, "mapping_layers": 1}, 3_937, "Dong et al. 2016, table 1: FSRCNN-s"),
    # Shi et al. 2016, section 3.2: (5, 64)(3, 32)(3, r^2), without biases.
    ("espcn", {}, 5**2 * 64 + 3**2 * 64 * 32 + 3**2 * 32 * 9, "the layers of Shi et al. 2016"),
    ("vdsr", {}, 664_704, "665 K in Tai et al. 2017 (DRRN), figure 1"),
]
"""Weights without biases and PReLUs, as these papers count them."""


def load(name: str, scale: int = 3, **changes: Any) -> dict[str, Any]:
    option: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))  # type: ignore[assignment]
    return {**option, **({} if name in KEEPS_SIZE else {"scale": scale}), **changes}


def built(name: str, channels: int = 1, scale: int = 3, **changes: Any) -> nn.Module:
    return construct_model(load(name, scale, **changes), num_classes=channels, in_channels=channels, image_size=24)


@pytest.mark.parametrize(("name", "changes", "published"), [case[:3] for case in PUBLISHED_WEIGHTS])
def test_a_network_has_the_published_weights(name: str, changes: dict[str, Any], published: int) -> None:
    network = without_weights(lambda: built(name, **changes))
    assert sum(parameter.numel() for parameter in network.parameters() if parameter.ndim == 4) == published


@pytest.mark.parametrize(("scale", "published"), [(2, 1.37), (3, 1.55), (4, 1.52)])
def test_edsr_baseline_has_the_published_parameters(scale: int, published: float) -> None:
    network = without_weights(lambda: built("edsr_baseline", 3, scale))
    assert round(sum(parameter.numel() for parameter in network.parameters()) / 1e6, 2) == published


@pytest.mark.parametrize("name", CARDS)
def test_a_card_has_the_figures_of_the_ledger(name: str) -> None:
    card = CARDS[name]
    sizes = {"num_classes": card.num_classes, "in_channels": card.in_channels, "image_size": card.image_size}
    network = without_weights(lambda: construct_model(load(name, 2 if name == "edsr_baseline" else 3), **sizes))
    ledger = build_ledger(network, (card.in_channels, card.image_size, card.image_size))
    assert ledger.total("macs") == card.macs
    assert sum(parameter.numel() for parameter in network.parameters()) == card.parameters
    assert card.paper is not None
    assert card.year == card.paper.year


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("name", CARDS)
def test_an_output_has_exactly_the_scaled_size(name: str, scale: int) -> None:
    factor = 1 if name in KEEPS_SIZE else scale
    with torch.device("meta"):
        network = construct_model(load(name, scale), num_classes=3, in_channels=1, image_size=24)
        assert network(torch.empty(2, 1, 17, 30)).shape == (2, 3, 17 * factor, 30 * factor)


@pytest.mark.parametrize("name", CARDS)
def test_a_network_learns_a_batch_by_heart(name: str) -> None:
    torch.manual_seed(0)
    network = built(name)
    generator = torch.Generator().manual_seed(1)
    targets = nn.functional.interpolate(
        torch.rand(2, 1, 8, 8, generator=generator), 24, mode="bicubic", align_corners=False
    )
    images = targets if name in KEEPS_SIZE else nn.functional.interpolate(targets, 8, mode="area")
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(20):
        loss = nn.functional.l1_loss(network(images + 0.05 * images.sign()), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("scale", [2, 3])
def test_espcn_arranges_its_last_layer_as_the_paper(scale: int) -> None:
    """Equation 4: the pixel (x, y) is that of channel scale * mod(y, scale) + mod(x, scale) at (x / s, y / s)."""
    network = built("espcn", scale=scale)
    image = torch.rand(1, 1, 5, 6)
    shuffled, channels = network(image)[0, 0], network.layers(image)[0]  # type: ignore[operator]
    for row in range(5 * scale):
        for column in range(6 * scale):
            channel = scale * (row % scale) + column % scale
            assert shuffled[row, column] == channels[channel, row // scale, column // scale]


def test_vdsr_without_weights_is_the_identity() -> None:
    network = built("vdsr")
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    image = torch.rand(1, 1, 9, 9)
    assert torch.equal(network(image), image)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("srcnn", {"filters": [64]}, r"model\.filters=\[64\]: has 1 numbers, one less than layers"),
        ("espcn", {"activation": "elu"}, r"model\.activation=elu: no such activation; choose from tanh, relu"),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        built(name, **changes)


def test_a_network_of_another_size_does_not_fit_a_classification() -> None:
    with pytest.raises(UserError, match=r"returns shape \(1, 10, 72, 72\)"):
        build_model(load("espcn"), num_classes=10, in_channels=1, image_size=24)
