"""Segmentation networks of conf/model: published sizes, logits per pixel of any image, a step, weights and heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from convoy.config.cards import SEGMENTATION, ModelCard, read_cards
from convoy.config.faults import UserError
from convoy.ledger.build_ledger import build_ledger
from convoy.ledger.skeleton import fake_copy, without_weights
from convoy.models.auxiliary import logits_of
from convoy.models.building.build import build_model, construct_model
from convoy.models.building.freezing import heads_of
from convoy.models.fcn import FCN, bilinear_window
from convoy.models.unet import UNet

pytest.importorskip("segmentation_models_pytorch")

CARDS = {name: card for name, card in read_cards(ModelCard).items() if card.family == SEGMENTATION}
FOLDER = Path(__file__).parents[2] / "conf" / "model"
SIZES = {"num_classes": 5, "in_channels": 1, "image_size": (44, 75)}


def load(name: str) -> dict[str, Any]:
    option: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))  # type: ignore[assignment]
    return option


def maps_fault(outputs: Tensor, images: Tensor) -> str | None:
    return None if outputs.shape == (len(images), 5, 44, 75) else f"returns {outputs.shape}"


def count_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", CARDS)
def test_a_card_has_the_figures_of_the_ledger(name: str) -> None:
    card = CARDS[name]
    sizes = {"num_classes": card.num_classes, "in_channels": card.in_channels, "image_size": card.image_size}
    network = without_weights(lambda: construct_model(load(name), **sizes))
    assert load(name)["name"] == name
    assert count_of(network) == card.parameters
    ledger = build_ledger(network, (card.in_channels, card.image_size, card.image_size))
    assert ledger.total("macs") == card.macs
    assert sum(row.params for row in ledger.rows) == card.parameters


@pytest.mark.parametrize("name", [name for name in CARDS if name in torchvision.models.list_models()])
def test_an_option_has_the_parameters_and_macs_that_torchvision_states(name: str) -> None:
    meta = next(iter(torchvision.models.get_model_weights(name))).meta
    assert CARDS[name].parameters == meta["num_params"]
    assert CARDS[name].macs / 1e9 == pytest.approx(meta["_ops"], rel=1e-3)


def test_networks_of_papers_have_their_parameters() -> None:
    assert round(CARDS["fcn32s"].parameters / 1e6) == 134  # Long et al. 2014, table 1
    assert round(CARDS["segnet"].parameters / 1e6, 2) == 29.45  # Badrinarayanan et al. 2015, table 6
    with torch.device("meta"):
        paper = UNet(num_classes=2, in_channels=1, padding="valid")
    # Figure 1 of Ronneberger et al. 2015: convolutions with biases, layer by layer.
    pairs = [(1, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
    down = sum(9 * a * b + b + 9 * b * b + b for a, b in pairs)
    up = sum(4 * 2 * c * c + c + 9 * 2 * c * c + c + 9 * c * c + c for c in (512, 256, 128, 64))
    assert count_of(paper) == down + up + 64 * 2 + 2 == 31_030_658
    assert f"{count_of(paper):,} parameters" in (CARDS["unet"].note or "")


@pytest.mark.parametrize("name", CARDS)
def test_an_option_returns_logits_of_the_images_size_and_trains_every_parameter(name: str) -> None:
    network = without_weights(lambda: construct_model(load(name), **SIZES))
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    copied = fake_copy(network, mode).train()
    with mode:
        main, others = logits_of(copied(torch.empty(2, 1, 44, 75)))
        assert main.shape == (2, 5, 44, 75)
        assert {other.shape for other in others} <= {main.shape}
        assert len(others) == bool(load(name).get("aux_logits"))
        targets = torch.zeros(2, 44, 75, dtype=torch.int64)
        sum((functional.cross_entropy(logits, targets) for logits in (main, *others)), torch.zeros(())).backward()
    assert [name for name, parameter in copied.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("fcn8s", {"width": 4, "batch_norm": True, "padding": 1}),
        ("unet", {"width": 4}),
        ("unet", {"width": 4, "batch_norm": True, "dropout": 0.0}),
        ("fpn", {"encoder": "test_resnet", "encoder_depth": 4}),
    ],
)
def test_the_loss_falls_on_a_batch_that_a_network_is_trained_on(name: str, changes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = build_model(load(name) | changes, **SIZES, output_check=maps_fault)
    images = torch.randn(2, 1, 44, 75)
    targets = (functional.avg_pool2d(images, 5, 1, 2)[:, 0] > 0).long() + 1
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        loss = functional.cross_entropy(network(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0], losses


@pytest.mark.parametrize("padding", [1, 100])
@pytest.mark.parametrize("stride", [32, 16, 8])
def test_scores_of_an_fcn_are_at_the_place_that_they_describe(stride: int, padding: int) -> None:
    """A linear ramp of scores, at the pixels in the middle of the windows of each pooling, stays a ramp of pixels."""
    with torch.device("meta"):
        network = FCN(stride, num_classes=1, padding=padding)
    images = torch.arange(96.0).expand(1, 1, 96, 96)
    border = network.shift[0]
    places: list[Tensor] = []  # the pixel in the middle of each value
    for level in range(1, 6):
        side = -(-(96 + 2 * int(-border)) // 2**level)
        places.append(border + 2**level * torch.arange(float(side)) + (2**level - 1) / 2)

    class Ramp(nn.Module):
        def __init__(self, columns: Tensor) -> None:
            super().__init__()
            self.columns = columns

        def forward(self, maps: Tensor) -> Tensor:
            return self.columns.expand(1, 1, len(self.columns), -1)

    shift = network.shift[1]
    last = places[4][shift : len(places[4]) - shift]
    network.stages = nn.ModuleList(Ramp(columns) for columns in places)
    network.fc6, network.fc7 = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    network.scores = nn.ModuleList([Ramp(last), Ramp(places[3]), Ramp(places[2])][: len(network.scores)])
    network.upsampling = nn.ModuleList()
    for _ in network.scores[1:]:
        layer = nn.ConvTranspose2d(1, 1, 4, stride=2, bias=False)
        layer.weight.data[:] = bilinear_window(2)
        network.upsampling.append(layer)
    network.last = network.last.to_empty(device="cpu")
    network.last.weight.copy_(bilinear_window(stride))  # type: ignore[operator]
    ramp = network.eval()(images)[0, 0, 48, 34:62] / len(network.scores)
    # Positions below 0 are those of the padding, whose ReLU would remove them: none is used in the middle.
    assert ramp.tolist() == pytest.approx(list(range(34, 62)))


def test_upsampling_begins_as_bilinear_interpolation() -> None:
    network = FCN(16, num_classes=3, padding=1)
    scores = torch.randn(1, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    upsampled = network.upsampling[0](scores)[..., 1:-1, 1:-1]
    expected = functional.interpolate(scores, scale_factor=2, mode="bilinear", align_corners=False)
    assert torch.allclose(upsampled[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-6)


def test_mirrored_images_give_an_unpadded_unet_its_context() -> None:
    torch.manual_seed(0)
    network = UNet(3, in_channels=1, width=2, padding="valid", dropout=0.0).eval()
    images = torch.randn(1, 1, 572, 572)
    assert network.depth == 4
    whole = network(images)
    # From a multiple of 16, so that the poolings have the same windows.
    part = network(images[..., 80:468, 80:468])
    assert part.shape == (1, 3, 388, 388)
    # The windows of the innermost values are inside of the part.
    assert torch.allclose(whole[..., 282:288, 282:288], part[..., 202:208, 202:208], atol=1e-5)
    with pytest.raises(UserError, match=r"data\.image_size=105 is the smallest that works"):
        build_model(load("unet") | {"padding": "valid"}, num_classes=5, in_channels=1, image_size=44)


def test_a_file_of_torchvisions_network_is_loaded_with_another_number_of_classes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(
        "deeplabv3_mobilenet_v3_large", weights=None, weights_backbone=None, aux_loss=True
    )
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    option = load("deeplabv3_mobilenet_v3_large") | {"pretrained": str(tmp_path / "weights.pth")}
    sizes = {"num_classes": 21, "in_channels": 3, "image_size": 64}
    images = torch.randn(1, 3, 64, 64)
    for auxiliary in (True, False):
        ours = construct_model({**option, "aux_logits": auxiliary}, **sizes)
        assert torch.equal(ours.eval()(images), theirs.eval()(images)["out"])
    fewer = construct_model(option, **{**sizes, "num_classes": 4})
    assert fewer.eval()(images).shape == (1, 4, 64, 64)


def test_weights_of_vgg16_fit_no_other_fcn() -> None:
    for changes in ({"width": 32}, {"batch_norm": True}):
        with pytest.raises(UserError, match=r"model\.pretrained=true: the weights are those of VGG-16.*width=64"):
            build_model(load("fcn8s") | changes | {"pretrained": True}, **SIZES)


def test_a_file_of_an_fcn_is_loaded_with_another_number_of_classes(tmp_path: Path) -> None:
    option = {"name": "fcn8s", "_target_": "convoy.models.fcn.FCN", "stride": 8, "padding": 1}
    with torch.device("meta"):
        state = FCN(8, 5, padding=1).state_dict()
    torch.save({name: torch.zeros_like(value, device="cpu") for name, value in state.items()}, tmp_path / "fcn.pth")
    sizes = {"num_classes": 3, "in_channels": 3, "image_size": 64}
    network = construct_model({**option, "pretrained": str(tmp_path / "fcn.pth")}, **sizes)
    assert not network.get_parameter("fc6.0.weight").any()
    assert network.get_parameter("upsampling.0.weight").any()


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("fcn8s", {"scores.0", "scores.1", "scores.2"}),
        ("unet", {"classifier"}),
        ("segnet", {"classifier"}),
        ("deeplabv3_resnet50", {"classifier.4"}),
        ("lraspp_mobilenet_v3_large", {"classifier.low_classifier", "classifier.high_classifier"}),
        ("unet_encoder", {"segmentation_head.0"}),
        ("pspnet", {"segmentation_head.0"}),
    ],
)
def test_frozen_features_leave_the_layers_that_compute_logits(name: str, heads: set[str]) -> None:
    option = {**load(name), "freeze": "features"} | ({"aux_logits": False} if "deeplab" in name else {})
    network = without_weights(lambda: construct_model(option, **SIZES))
    trained = {key.rpartition(".")[0] for key, value in network.named_parameters() if value.requires_grad}
    assert trained == heads == set(heads_of(network, 5))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"name": "deeplabv3_resnet5"}, "model.name=deeplabv3_resnet5: torchvision has no such segmentation network"),
        (
            {"name": "lraspp_mobilenet_v3_large", "aux_logits": True},
            "model: torchvision's lraspp_mobilenet_v3_large can't be built",
        ),
    ],
)
def test_mistakes_about_torchvisions_networks_are_named(option: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        construct_model(load("torchvision_segmentation") | option, **SIZES)
    assert str(caught.value.faults[0]).startswith(message)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"name": "unett"}, "model.name=unett: segmentation-models-pytorch has no such architecture; did you mean"),
        ({"name": "unet", "encoder": "resnet33"}, "model.encoder=resnet33: timm has no such model"),
        ({"name": "unet", "width": 3}, "model.width=3: unet with the encoder resnet34 has no such argument"),
    ],
)
def test_mistakes_about_other_networks_are_named(option: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        construct_model(load("segmentation_models") | option, **SIZES)
    assert str(caught.value.faults[0]).startswith(message)
