"""Weights of the frozen network of the perceptual loss: a file in torch's hub folder stands for the download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from tests.models.published_files import publish_torchvision
from torchvision.transforms import v2

from convoy.config.faults import UserError
from convoy.tasks.perceptual_loss import PerceptualLoss, _frozen_features


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("torch.hub._hub_dir", str(tmp_path))
    _frozen_features.cache_clear()
    yield tmp_path
    _frozen_features.cache_clear()


def test_the_loss_is_the_distance_of_the_features_of_vgg19(hub: Path) -> None:
    state = publish_torchvision(hub, "vgg19")
    loss = PerceptualLoss(pixel_weight=0.0)
    loss.prepare()
    with torch.device("meta"):
        reference = torchvision.models.vgg19()
    reference.load_state_dict(state, assign=True)
    conv5_4 = reference.eval().features[:35]
    outputs, targets = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(1)).unbind()
    usual = v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.inference_mode():
        maps = [conv5_4(usual(images)) for images in (outputs, targets)]
        found = loss(outputs, targets)
    assert maps[0].shape == (2, 512, 2, 2)
    expected = float((maps[0] - maps[1]).abs().mean())
    assert expected > 0.01
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_without_a_connection_a_file_is_asked_for(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(UserError) as caught:
        PerceptualLoss().prepare()
    (fault,) = caught.value.faults
    assert (fault.key, fault.value) == ("loss.weights", "null")
    assert "vgg19-dcbb9e9d.pth on a machine with a network connection and give the file, loss.weights=" in fault.remedy
    assert f"or put it into {hub}/checkpoints" in fault.remedy
    assert "model.pretrained" not in fault.remedy
