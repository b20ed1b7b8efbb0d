"""Targets of saved data and of the user, tried by building them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from convoy.config import targets
from convoy.config.compose import compose
from convoy.config.faults import UserError
from convoy.config.options import Options
from convoy.config.targets import build, resolve, signature_faults, target_faults
from convoy.config.trust import TRUST

EXPORTED = "torch.nn.modules.module.torch"
"""Path from an allowed package back to all of torch."""


def constructions(folder: Path) -> dict[str, dict[str, Any]]:
    """Model groups that ran a program or loaded a pickle before targets were checked by identity.

    Each would create `folder`/ran, or read a file that does.
    """
    ran, timm = folder / "ran", "convoy.models.libraries.timm_model"

    def nested(**node: Any) -> dict[str, Any]:
        return {"_target_": timm, "name": "resnet18", "x": node}

    (folder / "hubconf.py").write_text(f"from pathlib import Path\ndef net():\n    Path({str(ran)!r}).touch()\n")
    (folder / "evil.pkl").write_bytes(b"cposix\nsystem\n(S'touch " + str(ran).encode() + b"'\ntR.")
    pickled = str(folder / "evil.pkl")
    return {
        "shell": nested(_target_=f"{EXPORTED}.utils.collect_env.run", command=f"touch {ran}"),
        "shell as the model": {"_target_": f"{EXPORTED}.utils.collect_env.run", "command": f"touch {ran}"},
        "hub": nested(_target_=f"{EXPORTED}.hub.load", repo_or_dir=str(folder), model="net", source="local"),
        "pickle": nested(_target_=f"{EXPORTED}.load", f=pickled, weights_only=False),
        "timm's pickle": nested(
            _target_="timm.models._helpers.load_state_dict", checkpoint_path=pickled, weights_only=False
        ),
        "jit": nested(_target_=f"{EXPORTED}.jit.load", f=pickled),
        "library": nested(_target_=f"{EXPORTED}.ops.load_library", path=pickled),
        "package": nested(_target_=f"{EXPORTED}.package.PackageImporter", file_or_buffer=pickled),
        "private name": nested(_target_="torch.nn.modules.module._global_forward_hooks.update"),
        "private class": {"_target_": "torch.nn.modules.batchnorm._BatchNorm", "num_features": 3},
        "module as an attribute": nested(_target_="torchvision.models.resnet.nn.Linear", in_features=1, out_features=1),
        "function of an allowed package": nested(_target_="torchvision.models.get_model", name="resnet18"),
        "builder that loads files": {"_target_": "timm.models.resnet18", "pretrained_cfg": {"file": pickled}},
        "Convoy's reader of weights": nested(_target_="convoy.models.building.weights.read_weights", path=pickled),
        "method of a class": nested(_target_="torch.nn.Module.load_state_dict"),
        "deep in a list": nested(_target_="torch.nn.Sequential", x=[{"y": {"_target_": "os.system"}}]),
        "user's module": {"_target_": "stranger.Net"},
    }


NAMES = (
    "shell",
    "shell as the model",
    "hub",
    "pickle",
    "timm's pickle",
    "jit",
    "library",
    "package",
    "private name",
    "private class",
    "module as an attribute",
    "function of an allowed package",
    "builder that loads files",
    "Convoy's reader of weights",
    "method of a class",
    "deep in a list",
    "user's module",
)


def add_module(folder: Path, name: str, text: str) -> None:
    """Write a module that creates `folder`/ran when it is imported."""
    (folder / f"{name}.py").write_text(f"from pathlib import Path\nPath({str(folder / 'ran')!r}).touch()\n{text}")


@pytest.fixture
def module_name(request: pytest.FixtureRequest) -> str:
    """Name of a module that no other test imports."""
    return f"mine_{abs(hash(request.node.nodeid))}"


def write_option(folder: Path, group: str, name: str, text: str) -> None:
    (folder / group).mkdir(parents=True, exist_ok=True)
    (folder / group / f"{name}.yaml").write_text(text)


def test_every_construction_is_tried(tmp_path: Path) -> None:
    assert tuple(constructions(tmp_path)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_saved_data_builds_only_built_in_targets(name: str, tmp_path: Path) -> None:
    add_module(tmp_path, "stranger", "class Net: pass\n")
    with pytest.raises(UserError, match=r"_target_.*--config-dir"):
        build("model", constructions(tmp_path)[name])
    assert not (tmp_path / "ran").exists()
    assert "stranger" not in sys.modules


def test_constructors_work_without_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusals above would prove nothing if the constructions were wrong."""
    monkeypatch.setattr(TRUST, "declares", lambda _: True)
    for name in ("shell", "pickle", "hub"):
        (tmp_path / "ran").unlink(missing_ok=True)
        with contextlib.suppress(RuntimeError):  # torch, of a pickle that holds no tensors; it has run by then
            targets._build_nested(constructions(tmp_path)[name]["x"], "model.x")
        assert (tmp_path / "ran").exists(), name


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "torchx.nn.Linear", "torch.nn", "nn", "", ".", 3])
def test_targets_outside_allowed_packages_are_refused(target: object) -> None:
    with pytest.raises(UserError, match="_target_"):
        build("model", {"_target_": target})


@pytest.mark.parametrize(
    ("group", "target"),
    [
        ("model", "torchvision.models.resnet18"),
        ("model", "torchvision.models.VisionTransformer"),
        ("model", "torch.nn.Sequential"),
        ("model", "timm.layers.BatchNormAct2d"),
        ("optimizer", "torch.optim.Adafactor"),  # defined in a private module, exported by a public one
        ("optimizer", "timm.optim.Lion"),
        ("scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau"),
        ("scheduler", "timm.scheduler.CosineLRScheduler"),
        ("loss", "torch.nn.CrossEntropyLoss"),
        ("metric", "torchmetrics.Accuracy"),
        ("callback", "pytorch_lightning.callbacks.LearningRateMonitor"),
        ("logger", "pytorch_lightning.loggers.CSVLogger"),
    ],
)
def test_built_in_classes_need_no_declaration(group: str, target: str) -> None:
    assert target_faults(group, {"_target_": target}) == []
    assert resolve(target, group).__name__ == target.rpartition(".")[2]


@pytest.mark.parametrize(
    ("group", "target"),
    [
        ("optimizer", "torch.nn.Linear"),
        ("model", "torch.optim.Rprop"),
        ("optimizer", "torch.optim.lr_scheduler.ExponentialLR"),
        ("metric", "torchmetrics.multimodal.CLIPScore"),
        ("data", "torch.nn.Linear"),
    ],
)
def test_a_class_of_another_kind_is_refused(group: str, target: str) -> None:
    with pytest.raises(UserError, match="comes from a saved file"):
        resolve(target, group)


def test_a_nested_target_is_checked_before_anything_is_built(tmp_path: Path, module_name: str) -> None:
    add_module(tmp_path, module_name, "class Net:\n    pass\n")
    compose([f"model._target_={module_name}.Net"])
    node = {"_target_": f"{module_name}.Net", "x": {"_target_": "os.system"}}
    assert [fault.key for fault in target_faults("model", node)] == ["model.x._target_"]
    with pytest.raises(UserError, match=r"model\.x\._target_=os\.system"):
        build("model", node)
    assert not (tmp_path / "ran").exists()


def test_nested_and_partial_targets_are_built() -> None:
    node = {
        "_target_": "torchvision.models.resnet18",
        "num_classes": 3,
        "norm_layer": {"_target_": "torch.nn.BatchNorm2d", "_partial_": True, "eps": 0.5},
    }
    made = build("model", node)
    assert (made.fc.out_features, made.bn1.eps) == (3, 0.5)


def test_the_users_targets_may_be_anything(tmp_path: Path, module_name: str) -> None:
    add_module(tmp_path, module_name, "class Net:\n    width = 7\n")
    write_option(tmp_path / "options", "model", "mine", f"_target_: {module_name}.Net\n")
    with pytest.raises(UserError):
        resolve(f"{module_name}.Net", "model")
    compose(["model=mine"], Options(tmp_path / "options"))
    before = list(sys.path)
    assert resolve(f"{module_name}.Net", "model").width == 7  # type: ignore[attr-defined]
    assert sys.path == before


def test_files_of_the_config_folder_declare_targets_without_being_chosen(
    tmp_path: Path, module_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_module(tmp_path, module_name, "class Net:\n    width = 7\n")
    text = f"name: mine\nblock: [{{_target_: {module_name}.Net}}] # not {module_name}.Other\n"
    write_option(tmp_path / "options", "model", "mine", text)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    TRUST.add_folder(tmp_path / "options")
    assert resolve(f"{module_name}.Net", "model").width == 7  # type: ignore[attr-defined]
    with pytest.raises(UserError):
        resolve(f"{module_name}.Other", "model")


def test_only_options_declare_their_targets(tmp_path: Path) -> None:
    """A received run in the config folder is not an option in it."""
    for path in ("config.yaml", "outputs/mynet/run/config.yaml", "data/downloaded/model/x.yaml"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("model: {_target_: stranger.Net}\n")
    TRUST.add_folder(tmp_path)
    assert not TRUST.declares("stranger.Net")
    write_option(tmp_path, "experiment", "mine", "model: {_target_: stranger.Net}\n")
    assert TRUST.declares("stranger.Net")


def test_the_error_names_what_declares_a_target_and_following_it_works(tmp_path: Path, module_name: str) -> None:
    add_module(tmp_path, module_name, "class Net:\n    width = 7\n")
    target = f"{module_name}.Net"
    (fault,) = target_faults("model", {"_target_": target})
    assert fault.remedy == (
        "to trust it, write --config-dir <folder>, where <folder>/model/<name>.yaml has "
        f'"_target_: {target}" and its module is beside <folder>'
    )
    write_option(tmp_path / "options", "model", "any", f"_target_: {target}\n")
    TRUST.add_folder(tmp_path / "options")
    assert target_faults("model", {"_target_": target}) == []


def refusal(target: str) -> str:
    compose([f"+model.x={{_target_: {target}}}"])
    with pytest.raises(UserError) as caught:
        resolve(target, "model")
    return str(caught.value)


class TestMistakesInUserCode:
    def test_module_is_missing(self, tmp_path: Path) -> None:
        (tmp_path / "mynet.py").touch()
        message = refusal("mynett.Net")
        assert f"no module mynett in {tmp_path}" in message
        assert message.endswith("did you mean mynet?")

    def test_class_is_missing(self, tmp_path: Path, module_name: str) -> None:
        add_module(tmp_path, module_name, "class Network: pass\n")
        message = refusal(f"{module_name}.Netwrok")
        assert f"{module_name} ({tmp_path / module_name}.py) has no Netwrok; did you mean Network?" in message

    def test_module_has_the_name_of_another(self, tmp_path: Path) -> None:
        (tmp_path / "csv.py").write_text("class Net: pass\n")
        message = refusal("csv.Net")
        assert f"csv is another module, {sys.modules['csv'].__file__}; rename {tmp_path / 'csv.py'}" in message

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("import nothing_such\n", "(ModuleNotFoundError: No module named 'nothing_such'; {name}.py, line 3)"),
            ("class Net(:\n", "; {name}.py, line 3)"),
            ("1 / 0\n", "(ZeroDivisionError: division by zero; {name}.py, line 3)"),
            ("raise SystemExit\n", "(SystemExit; {name}.py, line 3)"),
        ],
    )
    def test_module_fails(self, tmp_path: Path, module_name: str, text: str, said: str) -> None:
        add_module(tmp_path, module_name, text)
        message = refusal(f"{module_name}.Net")
        assert f"module {module_name} can't be imported" in message
        assert said.format(name=module_name) in message

    def test_target_is_no_class(self, tmp_path: Path, module_name: str) -> None:
        add_module(tmp_path, module_name, "import math\nwidth = 3\n")
        assert "is of type int, not a class or function" in refusal(f"{module_name}.width")
        assert "is a module, not a class or function" in refusal(f"{module_name}.math")
        assert "is not the dotted path of a class" in refusal("Net")


def signature_messages(group: str, node: dict[str, Any], *given: str) -> list[str]:
    return [str(fault) for fault in signature_faults(group, node, frozenset(given))]


def test_a_wrong_argument_is_reported_with_the_nearest_right_one() -> None:
    node = {"_target_": "torch.optim.SGD", "lr": 0.1, "momentun": 0.9}
    assert signature_messages("optimizer", node, "params") == [
        "optimizer.momentun=0.9: torch.optim.SGD has no such argument; did you mean momentum?"
    ]


def test_building_with_an_unknown_argument_names_its_key() -> None:
    with pytest.raises(UserError, match=r"optimizer\.momentun=0\.9: .* has no such argument; did you mean"):
        build("optimizer", {"_target_": "torch.optim.SGD", "momentun": 0.9}, [])


def test_a_missing_argument_is_reported() -> None:
    node = {"_target_": "torch.optim.lr_scheduler.StepLR", "gamma": 0.1}
    (message,) = signature_messages("scheduler", node, "optimizer")
    assert message.startswith("scheduler.step_size: torch.optim.lr_scheduler.StepLR needs it; write +scheduler.step")


def test_a_name_that_a_module_does_not_have_is_reported_with_the_nearest() -> None:
    compose(["optimizer._target_=torch.optim.Adamm"])
    with pytest.raises(UserError, match="did you mean Adam"):
        resolve("torch.optim.Adamm", "optimizer")


def test_checks_import_no_torch() -> None:
    code = (
        "import sys\nfrom convoy.config.targets import target_faults\n"
        "target_faults('model', {'_target_': 'torch.nn.Linear', 'x': {'_target_': 'stranger.Net'}})\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_words_declare_the_same_targets_in_another_process(tmp_path: Path) -> None:
    write_option(tmp_path / "options", "model", "mine", "_target_: mynet.Net\n")
    compose(["model=mine", "optimizer._target_=mine.SGD", "+model.x={_target_: mine.X}"], Options(tmp_path / "options"))
    words = TRUST.words
    assert words == [
        "--config-dir",
        str(tmp_path / "options"),
        "optimizer._target_=mine.SGD",
        "+model.x={_target_: mine.X}",
    ]
    assert all(TRUST.declares(target) for target in ("mynet.Net", "mine.SGD", "mine.X"))
