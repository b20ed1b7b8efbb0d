"""Pretrained weights inside of networks for masks and key points: files in the caches stand for downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from omegaconf import OmegaConf
from tests.models.published_files import publish_on_hub, publish_torchvision
from torch import Tensor, nn

from convoy.config.faults import UserError
from convoy.models.building.build import construct_model

smp = pytest.importorskip("segmentation_models_pytorch")

FOLDER = Path(__file__).parents[3] / "conf" / "model"
SIZES = {"num_classes": 3, "in_channels": 3, "image_size": 64}
TIMMS = {"unet_encoder": "encoder", "fpn": "encoder", "simple_baseline": "backbone"}


def pretrained(name: str, **changes: Any) -> nn.Module:
    option: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))  # type: ignore[assignment]
    sizes = {key: changes.pop(key, value) for key, value in SIZES.items()}
    return construct_model({**option, "pretrained": True, **changes}, **sizes).eval()


def theirs(name: str, state: dict[str, Tensor]) -> nn.Module:
    """Return torchvision's network with weights."""
    with torch.device("meta"):
        network = torchvision.models.get_model(name)
    network.load_state_dict(state, assign=True)
    return network.eval()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    return tmp_path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_an_fcn_computes_the_hidden_layers_of_vgg16_at_each_position(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convoy.models.fcn.initialize", lambda *_, **__: None)  # torch's random weights stay
    state = publish_torchvision(hub, "vgg16")
    network = pretrained("fcn32s", padding=1)
    reference = theirs("vgg16", state)
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    maps: list[Tensor] = []
    network.get_submodule("fc7").register_forward_hook(lambda _, __, output: maps.append(output))
    with torch.inference_mode():
        pooled = reference.avgpool(reference.features(image))  # type: ignore[operator]
        hidden = reference.classifier[:5](pooled.flatten(1))  # type: ignore[index]
        network(image)
    # The window of the middle of 7x7 values is the whole map.
    torch.testing.assert_close(maps[0][:, :, 3, 3], hidden, rtol=1e-3, atol=1e-4)
    assert hidden.std() > 0.01
    own = dict(network.named_parameters())
    taken = [name for name in own if name.startswith(("stages", "fc"))]
    for name, key in zip(taken, list(state)[:30], strict=True):
        assert torch.equal(own[name].flatten(), state[key].flatten()), (name, key)
    assert not own["scores.0.weight"].any()


@pytest.mark.parametrize("in_channels", [1, 3])
def test_the_encoder_of_segnet_computes_the_features_of_vgg16(in_channels: int, hub: Path) -> None:
    state = publish_torchvision(hub, "vgg16_bn")
    network = pretrained("segnet", in_channels=in_channels)
    image = torch.randn(1, in_channels, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features = theirs("vgg16_bn", state).features(image.expand(-1, 3, -1, -1))  # type: ignore[operator]
        maps = image
        for stage in network.get_submodule("encoder").children():
            maps = network.pool(stage(maps))[0]  # type: ignore[operator]
    torch.testing.assert_close(maps, features, rtol=1e-3, atol=1e-4)
    assert features.std() > 0.01
    assert int(network.get_buffer("encoder.0.1.num_batches_tracked")) == 7


@pytest.mark.parametrize(("name", "part"), TIMMS.items())
def test_an_encoder_of_timm_has_the_weights_of_the_hub(name: str, part: str, cache: Path) -> None:
    torch.manual_seed(0)
    state = timm.create_model("test_resnet").state_dict()
    publish_on_hub(cache, "timm/test_resnet.r160_in1k", state)
    network = pretrained(name, **{part: "test_resnet"})
    prefix = f"{part}.model." if part == "encoder" else f"{part}."
    found = {key.removeprefix(prefix): value for key, value in network.state_dict().items() if key.startswith(prefix)}
    assert found.keys() == {key for key in state if not key.startswith("fc.")}
    assert all(torch.equal(value, state[key]) for key, value in found.items())


def test_an_encoder_of_segmentation_models_has_the_weights_of_the_hub(cache: Path) -> None:
    torch.manual_seed(0)
    state = smp.encoders.get_encoder("mit_b0").state_dict()
    settings = smp.encoders.encoders["mit_b0"]["pretrained_settings"]["imagenet"]
    publish_on_hub(cache, settings["repo_id"], state, settings["revision"])
    found = pretrained("unet_encoder", encoder="mit_b0").get_submodule("encoder").state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in found.items())


@pytest.mark.parametrize("name", ["fcn8s", "segnet"])
def test_without_a_connection_the_file_and_its_folder_are_named(
    name: str, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setattr("convoy.models.fcn.initialize", lambda *_, **__: None)
    with pytest.raises(UserError) as caught:
        pretrained(name)
    (fault,) = caught.value.faults
    assert (fault.key, fault.rule) == (
        "model.pretrained",
        "the weights can't be downloaded (Name or service not known)",
    )
    # A file of VGG-16 is no file of these networks.
    assert "=<file>" not in fault.remedy
    assert f"on a machine with a network connection and put it into {hub}/checkpoints; or omit" in fault.remedy


@pytest.mark.parametrize(
    ("name", "part", "encoder"),
    [*((name, part, "test_resnet") for name, part in TIMMS.items()), ("unet_encoder", "encoder", "mit_b0")],
)
def test_without_a_connection_the_cache_of_the_hub_is_named(name: str, part: str, encoder: str, cache: Path) -> None:
    with pytest.raises(UserError) as caught:
        pretrained(name, **{part: encoder})
    (fault,) = caught.value.faults
    assert fault.key == "model.pretrained"
    assert encoder in fault.rule
    assert f"which keeps them in {cache}, and copy this folder; or omit model.pretrained" in fault.remedy
