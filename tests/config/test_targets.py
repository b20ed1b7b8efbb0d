"""What a config may build, by running what must be refused and what must not."""

from __future__ import annotations

import pytest
import torch

from convoy.config.faults import UserError
from convoy.config.targets import build, resolve, signature_faults, target_faults


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.run",
        "torchvision.os.system",
        "convoy.models.build.inspect.os.system",
        "torch.hub.load",
        "torch.load",
        "torch.utils.cpp_extension.load",
        "torchx.nn.Linear",
        "torch.nn",
        "",
        3,
    ],
)
def test_a_target_outside_what_models_are_built_from_is_refused(target: object) -> None:
    with pytest.raises(UserError, match="_target_"):
        build("model", {"_target_": target})


@pytest.mark.parametrize("target", ["torch.nn.functional.os.system", "timm.models._builder.os.system"])
def test_another_library_reached_through_an_allowed_one_is_refused(target: str) -> None:
    with pytest.raises(UserError):
        build("model", {"_target_": target, "command": "true"})


def test_a_nested_target_is_held_to_the_same_rule() -> None:
    node = {"_target_": "torchvision.models.resnet18", "norm_layer": {"_target_": "os.system"}}
    assert [fault.key for fault in target_faults("model", node)] == ["model.norm_layer._target_"]


def test_nested_and_partial_targets_are_built() -> None:
    norm = {"_target_": "torch.nn.GroupNorm", "_partial_": True, "num_groups": 4}
    assert isinstance(build("model", {"_target_": "torch.nn.Sequential"}), torch.nn.Sequential)
    made = build("model", {"_target_": "torchvision.models.resnet18", "num_classes": 3})
    assert made.fc.out_features == 3
    from convoy.config.targets import _build_nested

    assert _build_nested(norm, "model.norm_layer")(num_channels=8).num_groups == 4


def test_a_wrong_argument_is_told_with_the_nearest_right_one() -> None:
    node = {"_target_": "torch.optim.SGD", "lr": 0.1, "momentun": 0.9}
    (fault,) = signature_faults("optimizer", node, frozenset({"params"}))
    assert str(fault) == "optimizer.momentun=0.9: torch.optim.SGD has no such argument; did you mean momentum?"


def test_a_missing_argument_is_told() -> None:
    node = {"_target_": "torch.optim.lr_scheduler.StepLR", "gamma": 0.1}
    assert [fault.key for fault in signature_faults("scheduler", node, frozenset({"optimizer"}))] == [
        "scheduler.step_size"
    ]


def test_a_name_that_a_module_does_not_have_is_told_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean Adam"):
        resolve("torch.optim.Adamm", "optimizer")
