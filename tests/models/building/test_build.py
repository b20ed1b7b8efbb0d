"""From a `model` group to a network: what is passed, what is refused, and weights from files."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from convoy.config.faults import Fault, UserError
from convoy.models.building import build
from convoy.models.building.build import build_model, check_model
from convoy.models.chain import Chain

SIZES = {"num_classes": 5, "in_channels": 3, "image_size": 16}
CHAIN = {"_target_": "convoy.models.chain.Chain", "name": "mine", "layers": ["CONV3-4", "POOL2", "FC-{num_classes}"]}
RESNET = {"_target_": "convoy.models.libraries.torchvision_model", "name": "resnet18"}


def fault_of(model: dict[str, Any], **sizes: int) -> Fault:
    with pytest.raises(UserError) as caught:
        build_model(model, **{**SIZES, **sizes})
    (fault,) = caught.value.faults
    return fault


def test_chain_gets_the_sizes_and_not_the_settings() -> None:
    network = build_model({**CHAIN, "lr": {"sgd": 0.1}, "pretrained": False}, **SIZES)
    assert isinstance(network, Chain)
    assert network.classifier[0].weight.shape == (5, 4 * 8 * 8)
    assert network.training


def test_placeholders_are_filled_however_deep_and_name_is_not_passed_on() -> None:
    resnet = {"_target_": "torchvision.models.resnet18", "name": "plain", "num_classes": "{num_classes}"}
    assert build_model(resnet, **SIZES).fc.out_features == 5
    vit = {
        "_target_": "torchvision.models.VisionTransformer",
        "name": "tiny vit",
        "image_size": "{image_size}",
        "patch_size": 8,
        "num_layers": 1,
        "num_heads": 1,
        "hidden_dim": 8,
        "mlp_dim": 8,
        "norm_layer": {"_target_": "torch.nn.LayerNorm", "_partial_": True, "eps": 1.0e-5},
    }
    assert build_model(vit, **SIZES)(torch.zeros(1, 3, 16, 16)).shape == (1, 5)


def test_network_without_logits_is_refused() -> None:
    fault = fault_of({"_target_": "torch.nn.Sequential", "name": "nothing", "pretrained": False})
    assert fault.rule == "returns shape (1, 3, 16, 16) for one image; the task expects (1, 5)"
    assert fault.remedy == "pool, flatten or project, so that the output is [B, 5] for B images"


def test_an_error_in_a_convoy_class_is_not_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("convoy.models.chain._modules", fail)
    with pytest.raises(ZeroDivisionError):
        build_model(CHAIN, **SIZES)


def test_arguments_of_a_built_in_network_that_do_not_work_are_one_message() -> None:
    stages = {"_target_": "convoy.models.stages.StageNetwork", "name": "mine", "stages": ["BASIC3-8"]}
    fault = fault_of({**stages, "head": -1})
    assert (fault.key, fault.rule, fault.value) == ("model.head", "must be at least 0", "-1")
    fault = fault_of({**stages, "head": 10**15})
    assert fault.rule.startswith("convoy.models.stages.StageNetwork can't be built (RuntimeError: ")


def test_size_that_the_group_sets_itself_is_not_overridden() -> None:
    fault = fault_of({**RESNET, "num_classes": 9})
    assert fault.rule == "returns shape (1, 9) for one image; the task expects (1, 5)"
    assert fault.remedy == 'write num_classes: "{num_classes}" in its file'


def test_model_that_does_not_take_the_images_is_refused_in_the_librarys_words() -> None:
    fault = fault_of({"_target_": "convoy.models.libraries.timm_model", "name": "vit_tiny_patch16_224"})
    assert (fault.key, fault.value) == ("model.name", "vit_tiny_patch16_224")
    assert "does not take images of 3x16x16 (Input height (16) doesn't match model (224)" in fault.rule
    assert fault.remedy == "choose data.image_size=224"


def test_target_outside_the_libraries_is_refused() -> None:
    assert fault_of({"_target_": "os.system", "name": "x"}).rule.startswith("comes from a saved file, and is neither")


def test_faults_are_found_together_and_without_torch() -> None:
    model = {
        **CHAIN,
        "layers": ["CONV3", "FC-{num_classes}"],
        "activaton": "relu",
        "pretrained": "/no/such/file.pt",
    }
    faults = check_model(model, **SIZES)
    assert [(fault.key, fault.remedy) for fault in faults][:2] == [
        (
            "model.pretrained",
            "write true for the library's weights, a run's folder, or the path of a checkpoint or .safetensors file",
        ),
        ("model.activaton", "did you mean activation?"),
    ]
    assert faults[2].key == "model.layers[0]"
    assert check_model({**RESNET, "stem": "smal"}, **SIZES)[0].key == "model.stem"
    assert check_model({**RESNET, "name": "???"}, **SIZES)[0].key == "model.name"
    assert check_model({**RESNET, "pretrained": 3}, **SIZES)[0].key == "model.pretrained"
    assert check_model(CHAIN, **SIZES) == check_model(RESNET, **SIZES) == []


def test_classes_that_are_not_counted_yet_are_no_fault() -> None:
    sizes = {**SIZES, "num_classes": None}
    assert check_model(CHAIN, **sizes) == []
    assert check_model({**CHAIN, "layers": ["FC-100"]}, **sizes) == []
    assert check_model({**CHAIN, "layers": ["CONV3-3 g3", "CONV1-{num_classes} g3", "GAP"]}, **sizes) == []
    assert check_model({**CHAIN, "layers": ["CONV3", "FC-100"]}, **sizes)[0].key == "model.layers[0]"
    assert check_model({**CHAIN, "layers": ["POOL32", "FC-{num_classes}"]}, **sizes)[0].key == "model.layers[0]"


def test_keys_of_a_chain_are_those_of_its_class() -> None:
    parameters = set(inspect.signature(Chain).parameters)
    assert set(build.CHAIN_KEYS) - {
        "_target_",
        "name",
        "pretrained",
        "weights",
        "lr",
        "freeze",
        "unfreeze_epoch",
        "freeze_norms",
        "stochastic_depth",
        "card",
    } == parameters - set(SIZES)


class TestWeightsFromAFile:
    def saved(self, **sizes: int) -> nn.Module:
        torch.manual_seed(1)
        return build_model(CHAIN, **{**SIZES, **sizes})

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda state: state,
            lambda state: {"state_dict": state, "epoch": 3},
            lambda state: {"state_dict": {f"network.{key}": value for key, value in state.items()}},
            lambda state: {
                "state_dict": {
                    **{f"network._orig_mod.{key}": value for key, value in state.items()},
                    "loss.weight": torch.ones(5),
                }
            },
            lambda state: {f"module.{key}": value for key, value in state.items()},
        ],
        ids=["plain", "state_dict", "convoy checkpoint", "compiled, with other modules", "DDP"],
    )
    def test_forms(self, wrap: Any, tmp_path: Path) -> None:
        state = self.saved().state_dict()
        torch.save(wrap(state), tmp_path / "weights.pt")
        ours = build_model({**CHAIN, "pretrained": str(tmp_path / "weights.pt")}, **SIZES).state_dict()
        assert all(torch.equal(value, state[key]) for key, value in ours.items())

    def test_safetensors(self, tmp_path: Path) -> None:
        state = self.saved().state_dict()
        save_file(state, tmp_path / "weights.safetensors")
        ours = build_model({**CHAIN, "pretrained": str(tmp_path / "weights.safetensors")}, **SIZES).state_dict()
        assert all(torch.equal(value, state[key]) for key, value in ours.items())

    def test_torchvisions_file_into_a_plain_target(self, tmp_path: Path) -> None:
        reference = torchvision.models.resnet18(num_classes=5)
        torch.save(reference.state_dict(), tmp_path / "resnet18.pth")
        model = {
            "_target_": "torchvision.models.resnet18",
            "name": "resnet18",
            "num_classes": "{num_classes}",
            "pretrained": str(tmp_path / "resnet18.pth"),
        }
        assert torch.equal(build_model(model, **SIZES).fc.weight, reference.fc.weight)

    def test_other_classes_leave_the_head_new(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        state = self.saved(num_classes=9).state_dict()
        torch.save(state, tmp_path / "nine.pt")
        ours = build_model({**CHAIN, "pretrained": str(tmp_path / "nine.pt")}, **SIZES)
        assert torch.equal(ours.features[0].weight, state["features.0.weight"])
        assert (
            "nine.pt: classifier.0.bias, classifier.0.weight not loaded; they keep their initial values" in caplog.text
        )

    def test_file_of_another_model_is_one_fault_that_lists_what_differs(self, tmp_path: Path) -> None:
        state = self.saved(image_size=32).state_dict()
        state["extra"] = torch.ones(1)
        del state["features.0.bias"]
        torch.save(state, tmp_path / "other.pt")
        fault = fault_of({**CHAIN, "pretrained": str(tmp_path / "other.pt")})
        assert fault.key == "model.pretrained"
        assert "1 of another shape (classifier.0.weight is 5x1024, here 5x256)" in fault.rule
        assert "1 missing (features.0.bias)" in fault.rule
        assert "1 unknown (extra)" in fault.rule

    @pytest.mark.parametrize(
        ("write", "rule"),
        [
            (lambda path: path.write_text("no weights"), "can't be read as weights"),
            (lambda path: torch.save(nn.Linear(1, 1), path), "can't be read as weights"),
            (lambda path: torch.save([1, 2], path), "contains no state dict"),
            (lambda path: torch.save({"epoch": 3}, path), "contains no state dict"),
        ],
        ids=["text", "pickled module", "list", "mapping without tensors"],
    )
    def test_file_without_weights(self, write: Any, rule: str, tmp_path: Path) -> None:
        write(tmp_path / "file.pt")
        fault = fault_of({**CHAIN, "pretrained": str(tmp_path / "file.pt")})
        assert (fault.key, fault.value) == ("model.pretrained", str(tmp_path / "file.pt"))
        assert rule in fault.rule
