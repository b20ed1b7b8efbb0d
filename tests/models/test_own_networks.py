"""The networks that neither torchvision nor timm has: what they compute, and that they learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from convoy.config.faults import UserError
from convoy.ledger.build_ledger import build_ledger
from convoy.ledger.skeleton import without_weights
from convoy.models.building.build import build_model
from convoy.models.chain import Chain
from convoy.models.dense import cifar_densenet
from convoy.models.efficientnet import compound_scaling, efficientnet
from convoy.models.preactivation import PreactivationBlock, PreactivationResNet
from convoy.models.residual import CifarBlock, CifarResNet, plain_network
from convoy.models.shufflenet import ShuffleNetV1

CHANNELS = 1
CLASSES = 4

FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "residual": lambda: CifarResNet(20, CLASSES, CHANNELS),
    "plain": lambda: CifarResNet(20, CLASSES, CHANNELS, shortcuts=False),
    "plain18": lambda: plain_network(18, CLASSES, CHANNELS, stem="small"),
    "preactivation": lambda: PreactivationResNet(3, CLASSES, CHANNELS),
    "bottleneck": lambda: PreactivationResNet(2, CLASSES, CHANNELS, bottleneck=True),
    "wide": lambda: PreactivationResNet(1, CLASSES, CHANNELS, width=4, dropout=0.3),
    "dense": lambda: cifar_densenet(22, 12, CLASSES, CHANNELS),
    "shuffle": lambda: ShuffleNetV1(CLASSES, CHANNELS, groups=3, scale=0.5, stem="small"),
    "efficient": lambda: efficientnet(0, CLASSES, CHANNELS, stem="small"),
}


def macs(network: nn.Module, side: int) -> int:
    return sum(row.macs for row in build_ledger(network, (3, side, side)).rows)


def losses_on_one_batch(network: nn.Module, side: int, lr: float) -> list[float]:
    """Over 30 steps."""
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(8, CHANNELS, side, side, generator=generator), torch.arange(8) % CLASSES
    optimizer = torch.optim.SGD(network.parameters(), lr, momentum=0.9)
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_learns_a_batch_by_heart(name: str) -> None:
    torch.manual_seed(0)
    losses = losses_on_one_batch(FAMILIES[name](), side=16, lr=0.01)
    assert sum(losses[-3:]) / 3 < 0.5 * losses[0]


@pytest.mark.parametrize("activation", ["relu", "elu", "leakyrelu0.1", "maxout2"])
@pytest.mark.parametrize("wiring", ["fully_connected", "locally_connected", "convolutional"])
def test_the_three_nets_of_one_size_learn_with_every_activation_and_pooling(wiring: str, activation: str) -> None:
    torch.manual_seed(0)
    layers = {
        "fully_connected": ["FC-128", "FC-64", "FC-{num_classes}"],
        "locally_connected": ["LOCAL5-2", "POOL2", "LOCAL5-4", "POOL2", "FC-{num_classes}"],
        "convolutional": ["CONV5-2", "POOL2", "CONV5-4", "POOL2", "FC-{num_classes}"],
    }[wiring]
    pooling = "l2" if activation == "elu" else "max"
    network = Chain(layers, CLASSES, CHANNELS, 16, activation=activation, pooling=pooling)
    losses = losses_on_one_batch(network, side=16, lr=0.02)
    assert sum(losses[-3:]) / 3 < 0.7 * losses[0]


def test_pooling_changes_pool_tokens_only() -> None:
    def poolings(pooling: str) -> list[str]:
        network = Chain(["CONV3-4", "POOL2", "AVGPOOL2", "FC-2"], 2, 1, 8, pooling=pooling)
        return [type(module).__name__ for module in network.features if "Pool" in type(module).__name__]

    assert poolings("max") == ["MaxPool2d", "AvgPool2d"]
    assert poolings("average") == ["AvgPool2d", "AvgPool2d"]
    assert poolings("l2") == ["L2Pool2d", "AvgPool2d"]
    with pytest.raises(UserError, match=r"model\.pooling=mean: no such pooling; choose from max, average, l2"):
        poolings("mean")


def test_a_block_whose_weights_are_zero_is_its_shortcut() -> None:
    inputs = torch.rand(2, 4, 6, 6)
    residual = CifarBlock(4, 6, 2, shortcut=True).eval()
    plain = CifarBlock(4, 6, 2, shortcut=False).eval()
    for block in (residual, plain):
        nn.init.zeros_(block.conv2.weight)
    expected = torch.zeros(2, 6, 3, 3)
    expected[:, :4] = inputs[:, :, ::2, ::2]
    torch.testing.assert_close(residual(inputs), expected)
    assert not plain(inputs).any()


def test_the_shortcut_of_a_preactivation_block_is_the_identity() -> None:
    inputs = torch.randn(2, 4, 6, 6)
    block = PreactivationBlock(4, 4, 1, bottleneck=False, dropout=0.0).eval()
    nn.init.zeros_(block.rest.conv2.weight)
    assert torch.equal(block(inputs), inputs)


def test_plain_and_residual_networks_begin_with_the_same_weights() -> None:
    networks = []
    for shortcuts in (True, False):
        torch.manual_seed(5)
        networks.append(CifarResNet(20, 10, shortcuts=shortcuts).state_dict())
    assert networks[0].keys() == networks[1].keys()
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


@pytest.mark.parametrize(
    ("build", "side", "published"),
    [
        (lambda: PreactivationResNet(4, 10, width=10), 32, 5.25e9),  # imgclsmob's table: 5,246.98M
        # The authors' code, megvii-model/ShuffleNet-Series: 138M, 138M and 292M.
        (lambda: ShuffleNetV1(1000), 224, 138e6),
        (lambda: ShuffleNetV1(1000, groups=8), 224, 138e6),
        (lambda: ShuffleNetV1(1000, scale=1.5), 224, 292e6),
    ],
)
def test_macs_are_the_published_ones(build: Callable[[], nn.Module], side: int, published: float) -> None:
    assert macs(without_weights(build), side) == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize(("groups", "published"), [(2, 1_733_848), (4, 1_968_344), (8, 2_434_768)])
def test_shufflenet_of_other_groups_has_the_published_parameters(groups: int, published: int) -> None:
    network = without_weights(lambda: ShuffleNetV1(1000, groups=groups))
    assert sum(parameter.numel() for parameter in network.parameters()) == published  # imgclsmob's table


def test_efficientnet_of_phi_0_is_torchvisions_b0() -> None:
    ours, theirs = (
        without_weights(build).state_dict()
        for build in (lambda: efficientnet(0, 1000), lambda: torchvision.models.efficientnet_b0())
    )
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}


def test_efficientnet_doubles_its_macs_with_phi() -> None:
    growth = 1.2 * 1.1**2 * 1.15**2  # Tan & Le 2019, equation 3: about 2
    figures = [
        macs(without_weights(lambda p=phi: efficientnet(p, 1000)), compound_scaling(phi).image_size) for phi in (0, 3)
    ]
    # Layers are rounded up.
    assert growth**3 < figures[1] / figures[0] < 1.4 * growth**3


def test_compound_scaling_is_the_papers() -> None:
    scaling = compound_scaling(1)
    assert (scaling.depth, scaling.width, scaling.image_size) == pytest.approx((1.2, 1.1, 258))
    # Section 5.2: 0.2 for B0 to 0.5 for B7.
    assert [compound_scaling(phi).dropout for phi in (0, 7)] == pytest.approx([0.2, 0.5])


def test_efficientnet_warns_about_another_image_size(caplog: pytest.LogCaptureFixture) -> None:
    with torch.device("meta"):
        efficientnet(1, 10, image_size=224)
        assert "phi 1 is meant for data.image_size=258, here it is 224" in caplog.text
        caplog.clear()
        efficientnet(1, 10, image_size=258)
        efficientnet(1, 10, image_size=32, stem="small")
    assert not caplog.text


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CifarResNet(21, 10), "model.depth=21: must be 6n [+] 2; write model.depth=20"),
        (lambda: cifar_densenet(101, 12, 10), "model.depth=101: must be 6n [+] 4; write model.depth=100"),
        (lambda: plain_network(50, 10), "model.depth=50: no such plain network; choose from 18, 34"),
        (lambda: PreactivationResNet(0, 10), "model.blocks=0: must be at least 1"),
        (lambda: PreactivationResNet(2, 10, dropout=1.0), "model.dropout=1.0: must be at least 0 and below 1"),
        (lambda: ShuffleNetV1(10, groups=5), "model.groups=5: no such number of groups"),
        (lambda: ShuffleNetV1(10, scale=0.33), "model.scale=0.33: results in 79 channels"),
        (lambda: efficientnet(-1, 10), "model.phi=-1: must be at least 0"),
        (lambda: efficientnet(1, 10, beta=0.9), "model.beta=0.9: must be at least 1"),
    ],
)
def test_a_value_out_of_range_is_refused(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()


def test_convoys_networks_have_no_published_weights() -> None:
    model: dict[str, Any] = {
        "_target_": "convoy.models.residual.CifarResNet",
        "name": "resnet20",
        "depth": 20,
        "pretrained": True,
    }
    with pytest.raises(UserError, match="there are no published weights for resnet20"):
        build_model(model, num_classes=10, in_channels=3, image_size=32)


@pytest.mark.parametrize("name", ["densenet121", "googlenet", "mobilenet_v2", "shufflenet_v2_x0_5", "squeezenet1_0"])
def test_a_small_stem_keeps_the_resolution_of_other_families_too(name: str) -> None:
    network = build_model(
        {"_target_": "convoy.models.libraries.torchvision_model", "name": name, "stem": "small"},
        num_classes=5,
        in_channels=1,
        image_size=28,
    )
    sides = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(lambda _module, inputs: sides.append(inputs[0].shape[-1]))
    network.eval()(torch.zeros(1, 1, 28, 28))
    assert sides[:2] == [28, 28]
