"""Targets of saved data, refused on each way in, with nothing run and nothing imported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tests.config.test_targets import NAMES, add_module, constructions
from tests.conftest import TINY

from convoy.commands.main import main
from convoy.config.compose import compose

WAYS: dict[str, Callable[[Path], list[str]]] = {
    "train --from": lambda run: ["train", "--from", str(run / "config.yaml"), "trainer.max_steps=1"],
    "train resume=": lambda run: ["train", f"resume={run}", "trainer.max_epochs=9"],
    "evaluate": lambda run: ["evaluate", f"run={run}"],
    "export": lambda run: ["export", f"run={run}"],
    "predict": lambda run: ["predict", f"run={run}", str(run / "a.png")],
    "filters": lambda run: ["filters", f"run={run}"],
    "features": lambda run: ["features", f"run={run}", "split=val"],
}
"""Commands that read the configuration of a run."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one step, an image and an exported file."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("trained")
    run = folder / "run"
    assert main(["train", *TINY, "trainer.max_epochs=1", f"folder={run}"]) == 0
    saved = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**saved, "folder": None}))
    assert main(["export", f"run={run}", f"output={run / 'exported.safetensors'}"]) == 0
    Image.new("L", (8, 8)).save(run / "a.png")
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "received"))


def refused(convoy: Callable[..., Any], words: list[str], folder: Path) -> None:
    ended = convoy(*words, folder=None)
    assert ended.code == 2, ended.err
    assert "_target_" in ended.err
    assert "--config-dir" in ended.err
    assert "Traceback" not in ended.err
    assert not (folder / "ran").exists()


QUICK_NAMES = ("shell", "private name", "user's module")
"""Constructions that are tried on every way in by the fast tests; the slow ones try all."""


@pytest.mark.parametrize(
    ("way", "name"),
    [
        pytest.param(way, name, marks=() if way == "train --from" or name in QUICK_NAMES else pytest.mark.slow)
        for way in WAYS
        for name in NAMES
    ],
)
def test_a_received_run_builds_only_built_in_targets(
    way: str, name: str, run: Path, tmp_path: Path, convoy: Callable[..., Any]
) -> None:
    add_module(tmp_path, "stranger", "class Net: pass\n")
    saved = yaml.safe_load((run / "config.yaml").read_text())
    saved["model"] = {"name": "received", **constructions(tmp_path)[name]}
    (run / "config.yaml").write_text(yaml.safe_dump(saved))
    refused(convoy, WAYS[way](run), tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_received_file_builds_only_built_in_targets(
    name: str, run: Path, tmp_path: Path, convoy: Callable[..., Any]
) -> None:
    add_module(tmp_path, "stranger", "class Net: pass\n")
    path = run / "exported.safetensors"
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    config = json.loads(metadata["config"])
    config["model"] = constructions(tmp_path)[name]
    save_file(load_file(path), path, {**metadata, "config": json.dumps(config)})
    refused(convoy, ["predict", f"checkpoint={path}", str(run / "a.png")], tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_received_checkpoint_builds_only_built_in_targets(
    name: str, run: Path, tmp_path: Path, convoy: Callable[..., Any]
) -> None:
    add_module(tmp_path, "stranger", "class Net: pass\n")
    path = tmp_path / "received.ckpt"
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    content["convoy"]["config"]["model"] = {"name": "received", **constructions(tmp_path)[name]}
    torch.save(content, path)
    refused(convoy, ["predict", f"checkpoint={path}", str(run / "a.png")], tmp_path)


@pytest.mark.parametrize("name", ["shell", "user's module"])
@pytest.mark.parametrize(
    "key",
    [
        "optimizer",
        "optimizer.x",
        "scheduler.x",
        "task",
        "task.mixup",
        "loss",
        "loss.reduction",
        "metric.x",
        "callback.x",
        "logger.other.x",
        "data.train",
    ],
)
@pytest.mark.parametrize("way", ["train --from", "train resume="])
def test_every_group_follows_the_same_rule(
    way: str, key: str, name: str, run: Path, tmp_path: Path, convoy: Callable[..., Any]
) -> None:
    add_module(tmp_path, "stranger", "class Net: pass\n")
    saved = yaml.safe_load((run / "config.yaml").read_text())
    node = constructions(tmp_path)[name]
    *path, last = key.split(".")
    owner = saved
    for part in path:
        owner = owner[part]
    owner[last] = {**(owner.get(last) or {}), **node} if key in ("optimizer", "task", "loss") else node.get("x", node)
    if key.startswith("data."):
        saved["data"] |= {"source": "dataset"}
    saved["folder"] = None
    (run / "config.yaml").write_text(yaml.safe_dump(saved))
    refused(convoy, WAYS[way](run), tmp_path)


@pytest.mark.parametrize("group", ["task", "loss"])
def test_the_task_of_a_received_file_follows_the_same_rule(
    group: str, run: Path, tmp_path: Path, convoy: Callable[..., Any]
) -> None:
    path = run / "exported.safetensors"
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    config = json.loads(metadata["config"])
    config[group] = {**config[group], **constructions(tmp_path)["shell as the model"]}
    save_file(load_file(path), path, {**metadata, "config": json.dumps(config)})
    refused(convoy, ["predict", f"checkpoint={path}", str(run / "a.png")], tmp_path)


@pytest.mark.parametrize("way", ["train --from", "train resume=", "evaluate", "predict"])
def test_a_received_run_reads_no_environment(
    way: str, run: Path, convoy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "unguessable")
    saved = yaml.safe_load((run / "config.yaml").read_text())
    saved["tags"] = ["${oc.env:SECRET}"]
    (run / "config.yaml").write_text(yaml.safe_dump(saved))
    ended = convoy(*WAYS[way](run), folder=None)
    assert ended.code == 2
    assert "tags[0]=${oc.env:SECRET}: an interpolation in a saved config" in ended.err
    assert "unguessable" not in ended.out + ended.err


OUT = {
    "logger.tensorboard.folder": ["/{tmp}/out", "../../out", "~/out", ".."],
    "output_root": ["/{tmp}/out", "../out"],
    "folder": ["/{tmp}/out", "../out"],
    "logger.other.x.save_dir": ["/{tmp}/out", "../out", "{run_folder}/../../out", "out", "~/out", "file:///{tmp}/out"],
    "logger.other.x.name": ["/{tmp}/out", "../out"],
    "callback.x.dirpath": ["/{tmp}/out", "../out", "out"],
}
"""Paths out of the run's folder, by the key that has them."""

WRITERS = {
    "logger.other.x": {"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": "{run_folder}/x"},
    "callback.x": {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint"},
}


def with_path(saved: dict[str, Any], key: str, text: str) -> dict[str, Any]:
    """Return a config that writes to `text` under `key`."""
    group = key.rpartition(".")[0]
    *path, last = key.split(".")
    if group in WRITERS:
        owner = saved
        for part in path[:-1]:
            owner = owner[part]
        owner[path[-1]] = dict(WRITERS[group])
    if key.startswith("logger.tensorboard"):
        saved["logger"]["tensorboard"] = {}
    owner = saved
    for part in path:
        owner = owner[part]
    owner[last] = text
    return saved


def files_outside(folder: Path, run: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if run not in (path, *path.parents)}


@pytest.mark.parametrize(
    ("way", "key", "text"),
    [
        *(("train --from", key, text) for key, values in OUT.items() for text in values),
        *(("train resume=", key, values[0]) for key, values in OUT.items()),
    ],
)
def test_a_received_config_writes_nothing_outside_of_the_run(
    way: str, key: str, text: str, run: Path, tmp_path: Path, convoy: Callable[..., Any]
) -> None:
    text = text.replace("/{tmp}", str(tmp_path))
    saved = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(with_path(saved, key, text)))
    before = files_outside(tmp_path, run)
    ended = convoy(*WAYS[way](run), folder=None)
    if way == "train resume=" and key in ("output_root", "folder"):
        assert ended.code == 0, ended.err  # the run's folder is the one that was named
        assert files_outside(tmp_path, run) == before
        return
    assert (ended.code, "Traceback" in ended.err) == (2, False), ended.err
    assert f"error: {key}={text}: " in ended.err
    assert files_outside(tmp_path, run) == before


@pytest.mark.parametrize("key", ["data.name", "hardware.name", "name"])
@pytest.mark.parametrize("way", ["evaluate", "features", "train --from"])
def test_a_received_name_is_no_path(way: str, key: str, run: Path, tmp_path: Path, convoy: Callable[..., Any]) -> None:
    saved = yaml.safe_load((run / "config.yaml").read_text())
    *path, last = key.split(".")
    owner = saved[path[0]] if path else saved
    owner[last] = "x/../../../out"
    (run / "config.yaml").write_text(yaml.safe_dump(saved))
    before = files_outside(tmp_path, run)
    ended = convoy(*WAYS[way](run), folder=None)
    assert ended.code == 2
    assert f"error: {key}=x/../../../out: " in ended.err
    assert files_outside(tmp_path, run) == before


EUROSAT = ("data=torchvision", "data.name=EuroSAT", "data.channels=1", "data.mean=[0.5]", "data.std=[0.5]")


@pytest.mark.parametrize("root", ["/{tmp}/out", "out", "../out", "/{tmp}"])
@pytest.mark.parametrize("way", ["train --from", "train resume=", "evaluate", "features"])
def test_a_received_config_downloads_nothing_outside_of_the_cache(
    way: str, root: str, run: Path, tmp_path: Path, convoy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    root = root.replace("/{tmp}", str(tmp_path))
    saved = yaml.safe_load((run / "config.yaml").read_text())
    composed = compose([*EUROSAT, "data.image_size=32", "data.eval_resize=32"])
    saved["data"] = OmegaConf.to_container(composed.data) | {"root": root}
    (run / "config.yaml").write_text(yaml.safe_dump(saved))
    before = files_outside(tmp_path, run)
    ended = convoy(*WAYS[way](run), folder=None)
    assert (ended.code, "Traceback" in ended.err) == (2, False), ended.err
    assert f"error: data.root={root}: comes from a saved file, and has no complete EuroSAT" in ended.err
    assert "to trust it, write it on the command line" in ended.err
    assert files_outside(tmp_path, run) == before
    trusted = convoy(*WAYS[way](run), f"data.root={root}", folder=None)
    assert f"error: data.root={Path(root)}: EuroSAT is not in {Path(root)} (" in trusted.err


@pytest.mark.parametrize("key", ["output_root", "logger.other.x.save_dir"])
def test_a_path_that_the_user_writes_is_used(key: str, run: Path, tmp_path: Path, convoy: Callable[..., Any]) -> None:
    saved = yaml.safe_load((run / "config.yaml").read_text())
    out = tmp_path / "out"
    (run / "config.yaml").write_text(yaml.safe_dump(with_path(saved, key, str(out))))
    ended = convoy(*WAYS["train --from"](run), f"{key}={out}", folder=None)
    assert ended.code == 0, ended.err
    assert any(out.rglob("*.csv"))


RESOLVERS = ("oc.env:HOME", "oc.env:SECRET,none", "oc.decode:x", "oc.create:x", "name", "now:%Y")


@pytest.mark.parametrize(
    ("way", "resolver"),
    [*(("train --from", resolver) for resolver in RESOLVERS), *((way, RESOLVERS[1]) for way in WAYS)],
)
def test_a_received_config_resolves_nothing(
    way: str, resolver: str, run: Path, convoy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "token")
    saved = yaml.safe_load((run / "config.yaml").read_text())
    saved["tags"] = ["${" + resolver + "}"]
    (run / "config.yaml").write_text(yaml.safe_dump(saved))
    ended = convoy(*WAYS[way](run), folder=None)
    assert ended.code == 2
    assert "error: tags[0]=${" + resolver + "}: an interpolation in a saved config" in ended.err
    assert "token" not in ended.out + ended.err


def test_a_received_checkpoint_and_file_resolve_nothing(run: Path, tmp_path: Path, convoy: Callable[..., Any]) -> None:
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    content["convoy"]["config"]["name"] = "${oc.env:HOME}"
    torch.save(content, tmp_path / "received.ckpt")
    path = run / "exported.safetensors"
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    config = {**json.loads(metadata["config"]), "name": "${oc.env:HOME}"}
    save_file(load_file(path), path, {**metadata, "config": json.dumps(config)})
    for received in (tmp_path / "received.ckpt", path):
        ended = convoy("predict", f"checkpoint={received}", str(run / "a.png"), folder=None)
        assert ended.code == 2
        assert "error: name=${oc.env:HOME}: an interpolation in a saved config" in ended.err
