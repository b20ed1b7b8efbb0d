"""Chains of layers: torchvision's own VGG and AlexNet, published sizes, and what the options do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from omegaconf import OmegaConf
from torch import nn

from convoy.config.faults import UserError
from convoy.models.building.build import construct_model
from convoy.models.chain import Chain
from convoy.models.layers import L2Pool2d, LocallyConnected2d, Maxout

CONF = Path(__file__).parents[2] / "conf" / "model"

PUBLISHED_PARAMETERS = {
    "alexnet": 61_100_840,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_868_840,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_053_736,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_678_248,
}
"""With 3x224x224 images and 1000 classes: torchvision's documentation of its weights, num_params."""


def chain_of(name: str, **changes: Any) -> Chain:
    """The chain of a shipped option at ImageNet's sizes, without memory for its parameters."""
    option: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))  # type: ignore[assignment]
    option.pop("card", None)
    for key in ("_target_", "lr", "name", "pretrained", "weights"):
        option.pop(key, None)
    sizes = {"num_classes": 1000, "in_channels": 3, "image_size": 224}
    with torch.device("meta"):
        return Chain(**{**option, **sizes, **changes})


def small_chain(*layers: str, image_size: int = 8, in_channels: int = 2, **options: Any) -> Chain:
    return Chain(layers, num_classes=5, in_channels=in_channels, image_size=image_size, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", "vgg16_bn", "alexnet", "vgg11"])
def test_loads_torchvision_unchanged_and_gives_the_same_output(name: str) -> None:
    torch.manual_seed(0)
    reference = torchvision.models.get_model(name, weights=None).eval()
    ours = chain_of(name).eval()
    ours.load_state_dict(reference.state_dict(), strict=True, assign=True)
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), reference(images))


@pytest.mark.parametrize("name", list(PUBLISHED_PARAMETERS))
def test_published_number_of_parameters_and_names_of_torchvision(name: str) -> None:
    ours = chain_of(name)
    with torch.device("meta"):
        reference = torchvision.models.get_model(name, weights=None)
    assert sum(parameter.numel() for parameter in ours.parameters()) == PUBLISHED_PARAMETERS[name]
    assert [(key, value.shape) for key, value in ours.state_dict().items()] == [
        (key, value.shape) for key, value in reference.state_dict().items()
    ]
    for part in ("features", "classifier"):
        assert [type(module) for module in getattr(ours, part)] == [type(module) for module in getattr(reference, part)]


def test_lenet5_has_the_parameters_of_its_paper() -> None:
    ours = chain_of("lenet5", num_classes=10, in_channels=1, image_size=32)
    weighted = [layer for layer in ours.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    sizes = [sum(parameter.numel() for parameter in layer.parameters()) for layer in weighted]
    # LeCun et al. 1998, section II.B: C1 156, C5 48,120, F6 10,164. C3 sees all of S2 here: 16 (6 25 + 1).
    assert sizes == [156, 2416, 48_120, 10_164, 850]


def test_tokens_name_the_modules_that_do_their_work() -> None:
    chain = small_chain("CONV3-4 bn", "POOL2", "DROPOUT0.5", "FC-6", "FC-{num_classes}")
    assert chain.tokens == {
        "features.0": "CONV3-4 bn",
        "features.1": "CONV3-4 bn",
        "features.2": "CONV3-4 bn",
        "features.3": "POOL2",
        "classifier.0": "DROPOUT0.5",
        "classifier.1": "FC-6",
        "classifier.2": "FC-6",
        "classifier.3": "FC-5",
    }
    assert [type(chain.get_submodule(name)).__name__ for name in chain.tokens][:4] == [
        "Conv2d",
        "BatchNorm2d",
        "ReLU",
        "MaxPool2d",
    ]


def test_every_kind_of_layer_builds_and_steps() -> None:
    chain = small_chain(
        "CONV3x1-8 g2 nobias leakyrelu0.1",
        "LRN5",
        "LOCAL3-6/2 p1 elu",
        "BN",
        "L2POOL2 p1",
        "CONV3-4 maxout2",
        "AVGPOOL3/2 p1",
        "SIGMOID",
        "TANH",
        "RELU",
        "ELU",
        "LEAKYRELU0.2",
        "MAXOUT2",
        "FC-8 bn tanh",
        "BN",
        "FC-{num_classes}",
        image_size=16,
    )
    kinds = {type(module) for module in chain.modules()}
    assert {LocallyConnected2d, L2Pool2d, Maxout, nn.LocalResponseNorm, nn.BatchNorm1d, nn.BatchNorm2d} <= kinds
    images, classes = torch.randn(6, 2, 16, 16), torch.arange(6) % 5
    optimizer = torch.optim.SGD(chain.parameters(), lr=0.05)
    before = nn.functional.cross_entropy(chain(images), classes)
    for _ in range(10):
        optimizer.zero_grad()
        nn.functional.cross_entropy(chain(images), classes).backward()
        optimizer.step()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in chain.parameters())
    assert nn.functional.cross_entropy(chain(images), classes) < before


def test_network_without_fc_ends_in_its_average() -> None:
    torch.manual_seed(0)
    chain = small_chain("CONV3-4", "CONV1-{num_classes}", "GAP")
    assert len(chain.classifier) == 0
    images = torch.randn(3, 2, 8, 8)
    torch.testing.assert_close(chain(images), chain.features[:-1](images).mean((2, 3)))


def test_local_response_norm_is_the_formula_of_its_paper() -> None:
    chain = small_chain("LRN5", "FC-{num_classes}", in_channels=7, image_size=2)
    images = 30 * torch.randn(1, 7, 2, 2)
    expected = torch.empty_like(images)
    for channel in range(7):
        neighbours = images[:, max(0, channel - 2) : channel + 3]
        expected[:, channel] = images[:, channel] / (2 + 1e-4 * neighbours.square().sum(1)) ** 0.75
    torch.testing.assert_close(chain.features[0](images), expected)


@pytest.mark.parametrize(
    ("activation", "variance"),
    [
        ("relu", 2 / 512),
        ("leakyrelu0.5", 1.6 / 512),
        ("tanh", 2 / (512 + 1000)),
        ("sigmoid", 2 / (512 + 1000)),
        ("linear", 1 / 512),
    ],
)
def test_initial_variance_is_that_of_he_and_glorot(activation: str, variance: float) -> None:
    torch.manual_seed(0)
    wide = small_chain(f"FC-1000 {activation}", "FC-{num_classes}", image_size=16)
    assert wide.classifier[0].weight.var().item() == pytest.approx(variance, rel=0.01)
    assert not wide.classifier[0].bias.any()


def test_a_separate_activation_token_determines_the_initial_variance() -> None:
    torch.manual_seed(0)
    chain = small_chain("FC-1000 linear", "BN", "RELU", "FC-{num_classes}", image_size=16)
    assert chain.classifier[0].weight.var().item() == pytest.approx(2 / 512, rel=0.01)


def test_second_moment_is_kept_through_depth_dropout_and_maxout() -> None:
    torch.manual_seed(0)
    deep = ["FC-1000", "DROPOUT0.5"] * 8
    chain = small_chain(*deep, "FC-1000 maxout2", "FC-1000 maxout2", "FC-1000 linear", "FC-{num_classes}")
    outputs = chain.classifier[:-1](torch.randn(256, 128))
    # Without regard to the dropouts it would be 2^8.
    assert 0.5 < outputs.square().mean().item() < 2


def test_deep_network_without_batch_norm_starts_near_chance() -> None:
    torch.manual_seed(0)
    chain = small_chain(*["CONV3-32"] * 16, "GAP", "FC-{num_classes}")
    loss = nn.functional.cross_entropy(chain(torch.randn(64, 2, 8, 8)), torch.arange(64) % 5)
    assert loss.item() == pytest.approx(math.log(5), rel=0.3)


class TestPretrained:
    """A file of the right name in torch's hub folder stands for a download."""

    @pytest.fixture(scope="class")
    def published(self, tmp_path_factory: pytest.TempPathFactory) -> Any:
        """An AlexNet of torchvision, in evaluation, whose state lies where its weights would be downloaded to."""
        hub, before = tmp_path_factory.mktemp("hub"), torch.hub.get_dir()
        (hub / "checkpoints").mkdir()
        network = torchvision.models.alexnet().eval()
        file = torchvision.models.AlexNet_Weights.DEFAULT.url.rpartition("/")[2]
        torch.save(network.state_dict(), hub / "checkpoints" / file)
        torch.hub.set_dir(hub)
        yield network
        torch.hub.set_dir(before)
        (hub / "checkpoints" / file).unlink()

    def alexnet(self, num_classes: int = 1000, in_channels: int = 3, image_size: int = 224) -> nn.Module:
        option: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(CONF / "alexnet.yaml"))  # type: ignore[assignment]
        return construct_model(
            {**option, "pretrained": True}, num_classes=num_classes, in_channels=in_channels, image_size=image_size
        )

    def test_new_head_and_gray_images(self, published: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
        network = self.alexnet(num_classes=7, in_channels=1).eval()
        assert network.classifier[6].weight.shape == (7, 4096)
        assert "classifier.6.bias, classifier.6.weight not loaded" in caplog.text
        assert "features.0.weight is adapted from 3 to 1 channels" in caplog.text
        gray = torch.randn(1, 1, 224, 224)
        with torch.no_grad():
            expected = published.features(gray.expand(1, 3, 224, 224))
            torch.testing.assert_close(network.features(gray), expected)
        assert torch.equal(network.classifier[4].weight, published.classifier[4].weight)

    @pytest.mark.usefixtures("published")
    def test_another_image_size_is_refused(self) -> None:
        with pytest.raises(UserError) as caught:
            self.alexnet(image_size=64)
        (fault,) = caught.value.faults
        assert fault.key == "model.pretrained"
        assert "classifier.1.weight is 4096x9216, here 4096x256" in fault.rule
        assert "data.image_size" in fault.remedy

    def test_a_missing_connection_has_a_remedy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError("Name or service not known")

        monkeypatch.setattr("torch.hub.urlopen", refuse)
        monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
        with pytest.raises(UserError) as caught:
            self.alexnet()
        (fault,) = caught.value.faults
        assert fault.key == "model.pretrained"
        assert "can't be downloaded (Name or service not known)" in fault.rule
        assert "https://download.pytorch.org/models/alexnet" in fault.remedy
        assert "model.pretrained=<file>" in fault.remedy

    def test_a_user_chain_has_no_published_weights(self) -> None:
        chain = {"_target_": "convoy.models.chain.Chain", "name": "mine", "layers": ["FC-5"], "pretrained": True}
        for weights in ({}, {"weights": None}, {"weights": "alexnet"}, {"weights": "timm.alexnet"}):
            with pytest.raises(UserError, match="no published weights for mine"):
                construct_model({**chain, **weights}, num_classes=5, in_channels=2, image_size=8)
