"""Models of torchvision and timm: image channels, classes, stems and weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from convoy.config.faults import Fault, UserError
from convoy.models.libraries import timm_model, torchvision_model


def fault_of(build: Any, *arguments: Any, **options: Any) -> Fault:
    with pytest.raises(UserError) as caught:
        build(*arguments, **options)
    (fault,) = caught.value.faults
    return fault


def publish(hub: Path, name: str) -> nn.Module:
    """A model with random weights, put where torchvision's download of its best weights would lie."""
    torch.manual_seed(0)
    options = {"init_weights": True, "aux_logits": True} if name == "googlenet" else {}
    network: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    file = torchvision.models.get_model_weights(name).DEFAULT.url.rpartition("/")[2]
    (hub / "checkpoints").mkdir(exist_ok=True)
    torch.save(network.state_dict(), hub / "checkpoints" / file)
    return network


@pytest.fixture
def hub(tmp_path: Path) -> Any:
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path)
    yield tmp_path
    torch.hub.set_dir(before)


def smallest_of_each_family() -> list[str]:
    """The shortest name of each of torchvision's modules of classification models."""
    families: dict[str, str] = {}
    for name in sorted(torchvision.models.list_models(module=torchvision.models), key=lambda name: (len(name), name)):
        families.setdefault(torchvision.models.get_model_builder(name).__module__, name)
    return list(families.values())


@pytest.mark.parametrize("name", smallest_of_each_family())
def test_every_family_of_torchvision_accepts_classes_and_channels(name: str) -> None:
    # RegNet computes its widths with tensors, which the meta device has no values for.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        network = torchvision_model(name, num_classes=7, in_channels=1).eval()
        image_size = 299 if name == "inception_v3" else 224
        assert network(torch.zeros(1, 1, image_size, image_size)).shape == (1, 7)


def test_one_channel_processes_gray_like_three_channels() -> None:
    torch.manual_seed(0)
    reference = torchvision_model("resnet18", 5).eval()
    torch.manual_seed(0)
    ours = torchvision_model("resnet18", 5, in_channels=1).eval()
    gray = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(ours(gray), reference(gray.expand(2, 3, 32, 32)))


def test_four_channels_of_equal_content_keep_the_scale() -> None:
    torch.manual_seed(0)
    three = torchvision_model("resnet18", 5).conv1
    torch.manual_seed(0)
    four = torchvision_model("resnet18", 5, in_channels=4).conv1
    expected = (3 * three.weight.sum(1) + 3 * three.weight[:, 0]) / 4
    torch.testing.assert_close(four.weight.sum(1), expected)


def test_small_stem_keeps_the_resolution_and_changes_nothing_else() -> None:
    standard, small = torchvision_model("resnet18", 10), torchvision_model("resnet18", 10, 1, stem="small")
    assert isinstance(small.maxpool, nn.Identity)
    assert small.layer1(small.maxpool(small.conv1(torch.zeros(1, 1, 32, 32)))).shape == (1, 64, 32, 32)
    changed = {key for key, value in small.state_dict().items() if value.shape != standard.state_dict()[key].shape}
    assert changed == {"conv1.weight"}
    # Kaiming normal by fan-out, as torchvision's ResNets begin: variance 2 / (64 3 3).
    assert small.conv1.weight.var().item() == pytest.approx(2 / 576, rel=0.2)


def test_stem_needs_a_first_stride_of_2_and_has_two_forms() -> None:
    for name in ("alexnet", "vgg11", "convnext_tiny"):
        rule = f"{name} does not begin with a convolution of stride 2 and an odd window"
        assert fault_of(torchvision_model, name, 10, stem="small").rule == rule
    assert fault_of(timm_model, "test_vit", 10, stem="small").key == "model.stem"
    assert fault_of(timm_model, "test_resnet", 10, stem="tiny").remedy == "choose from standard, small"
    assert fault_of(torchvision_model, "resnet18", 10, stem="tiny").remedy == "choose from standard, small"


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0", "mobilenet_v3_small"])
def test_pretrained_with_the_same_classes_is_the_published_model(name: str, hub: Path) -> None:
    reference = publish(hub, name)
    ours = torchvision_model(name, 1000, pretrained=True)
    assert all(torch.equal(value, reference.state_dict()[key]) for key, value in ours.state_dict().items())


@pytest.mark.parametrize(("name", "head"), [("resnet18", "fc"), ("squeezenet1_0", "classifier.1"), ("googlenet", "fc")])
def test_pretrained_with_other_classes_has_a_new_head(
    name: str, head: str, hub: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reference = publish(hub, name).state_dict()
    ours = torchvision_model(name, 7, pretrained=True).state_dict()
    differing = {key for key, value in ours.items() if not torch.equal(value, reference[key])}
    assert differing == {f"{head}.weight", f"{head}.bias"}
    assert f"torchvision's {name}: {head}.bias, {head}.weight not loaded" in caplog.text


def test_pretrained_with_small_stem_has_a_new_first_layer(hub: Path, caplog: pytest.LogCaptureFixture) -> None:
    reference = publish(hub, "resnet18").state_dict()
    ours = torchvision_model("resnet18", 1000, 1, stem="small", pretrained=True).state_dict()
    assert {key for key, value in ours.items() if not torch.equal(value, reference[key])} == {"conv1.weight"}
    assert "conv1.weight not loaded" in caplog.text


def test_weights_that_do_not_exist_or_cannot_be_fetched(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    fault = fault_of(torchvision_model, "resnet18", 10, pretrained=True)
    assert (fault.key, fault.value) == ("model.pretrained", "true")
    assert f"or put it into {hub}" in fault.remedy
    fault = fault_of(timm_model, "test_resnet", 10, pretrained=True, pretrained_cfg={"file": "/no/such/file"})
    assert fault.key == "model.pretrained_cfg"
    assert "model.pretrained=<file of weights>" in fault.remedy


@pytest.mark.parametrize(
    ("build", "name", "nearest"),
    [
        (torchvision_model, "resnt18", "resnet18"),
        (torchvision_model, "efficientnet_b9", "efficientnet_b0"),
        (timm_model, "resnet18x", "resnet18"),
        (timm_model, "convnext_tny", "convnext_tiny"),
    ],
)
def test_unknown_name_is_answered_with_a_near_one(build: Any, name: str, nearest: str) -> None:
    fault = fault_of(build, name, 10)
    assert (fault.key, fault.value) == ("model.name", name)
    assert fault.remedy.startswith(f"did you mean {nearest[:-1]}")


@pytest.mark.parametrize(("build", "name"), [(torchvision_model, "resnet18"), (timm_model, "test_resnet")])
def test_argument_that_the_model_lacks_is_named_with_a_remedy(build: Any, name: str) -> None:
    fault = fault_of(build, name, 10, depth=3)
    assert (fault.key, fault.value, fault.remedy) == ("model.depth", "3", "omit model.depth")
    assert fault.rule.endswith(f"{name} has no such argument")


def test_timm_has_a_small_stem_and_another_name() -> None:
    network = timm_model("ours", 7, 1, library_name="seresnet50", stem="small").eval()
    assert network.conv1.kernel_size == (3, 3)
    assert network.layer1(network.maxpool(network.conv1(torch.zeros(1, 1, 28, 28)))).shape == (1, 256, 28, 28)
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 7)


def test_pretrained_googlenet_keeps_auxiliary_classifiers_on_request(hub: Path) -> None:
    reference = publish(hub, "googlenet").state_dict()
    ours = torchvision_model("googlenet", 1000, pretrained=True, aux_logits=True).state_dict()
    assert ours.keys() == reference.keys()
    assert torch.equal(ours["aux1.fc2.weight"], reference["aux1.fc2.weight"])


def test_timm_fits_channels_classes_and_arguments() -> None:
    network = timm_model("test_vit", 7, in_channels=1, img_size=64).eval()
    assert network(torch.zeros(2, 1, 64, 64)).shape == (2, 7)
    assert "test_vit" in timm.list_models()


def test_timm_reads_no_file_named_in_a_config() -> None:
    with pytest.raises(UserError) as caught:
        timm_model("resnet18", 10, checkpoint_path="weights.pth", pretrained_cfg={"file": "weights.pth"})
    assert [fault.key for fault in caught.value.faults] == ["model.checkpoint_path", "model.pretrained_cfg"]
