"""Features of a layer, and a linear classifier on them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from tests.conftest import Run
from tests.export.conftest import Trained
from torch import nn

from convoy.config.compose import compose, to_config
from convoy.config.faults import UserError
from convoy.config.schema import Config
from convoy.data.targets import CLASS_INDEX, VALUES, Targets
from convoy.evaluation.feature_arrays import Source
from convoy.evaluation.feature_layers import tap
from convoy.evaluation.linear_probe import STRENGTHS, fit, probe
from convoy.tasks.construction import build_task
from convoy.tasks.task import Task

Convoy = Callable[..., Run]


def written(convoy: Convoy, folder: Path, *words: str) -> tuple[np.ndarray, np.ndarray, dict]:
    done = convoy("features", *words, f"output={folder}")
    assert done.code == 0, done.err
    assert sorted(path.name for path in folder.iterdir()) == ["features.json", "features.npy", "targets.npy"]
    described = json.loads((folder / "features.json").read_text())
    return np.load(folder / "features.npy"), np.load(folder / "targets.npy"), described


def test_features_equal_the_outputs_of_the_layer_on_test_images(
    convoy: Convoy, trained: Trained, tmp_path: Path
) -> None:
    run = f"run={trained.folder}"
    penultimate, labels, described = written(convoy, tmp_path / "a", run)
    assert penultimate.shape == (359, 32)
    assert penultimate.dtype == np.float32
    assert labels.tolist() == trained.labels
    assert described["layer"] == "penultimate"
    assert described["targets"] == {"kind": "class_index", "names": [str(digit) for digit in range(10)]}
    # The last layer of the network makes of them the classes that convoy predict gives for the image files.
    state = torch.load(trained.folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    names = [name for name in state if "classifier" in name]
    weight, bias = (state[name] for name in names[-2:])
    logits = torch.from_numpy(penultimate) @ weight.T + bias
    done = convoy("predict", f"run={trained.folder}", "top=10", "format=jsonl", *trained.images)
    for line, row in zip(done.out.splitlines(), logits.softmax(1), strict=True):
        for each in json.loads(line)["classes"]:
            assert each["probability"] == pytest.approx(float(row[int(each["class"])]), abs=1e-4)

    again = written(convoy, tmp_path / "b", run, "layer=fc1", "split=test")[0]
    assert np.array_equal(again, penultimate)
    assert np.allclose(written(convoy, tmp_path / "c", run, "layer=fc2")[0], logits.numpy(), atol=1e-4)
    maps = written(convoy, tmp_path / "d", run, "layer=features.3", "split=val")[0]
    assert maps.shape == (144, 8, 16, 16)


def chain(*sizes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def test_alexnets_names_for_fully_connected_layers() -> None:
    three = chain(4, 5, 6, 7)
    for one, other, module, side in (
        ("fc1", "fc6", "2", "input"),
        ("fc2", "fc7", "4", "input"),
        ("fc3", "fc8", "4", "output"),
    ):
        for name in (one, other):
            found = tap(three, name, 7)
            assert (found.module, found.side) == (module, side)
    for name in ("fc4", "fc5", "fc9"):
        with pytest.raises(UserError, match="its fully connected layers are fc1, fc2, fc3"):
            tap(three, name, 7)
    with pytest.raises(UserError, match="no such layer"):
        tap(chain(4, 5, 7), "fc7", 7)


def test_in_place_layers_do_not_change_stored_features() -> None:
    network = chain(4, 5, 6, 7)
    images = torch.randn(3, 4)
    with tap(network, "0", 7).listening(network) as heard, torch.no_grad():
        network(images)
        expected = torch.nn.functional.linear(images, network[0].weight, network[0].bias)
    assert torch.equal(heard.pop(), expected)
    assert (expected < 0).any()


def task_of(kind: str, num_targets: int, *words: str) -> tuple[Task, Config]:
    config = to_config(compose(words))
    return build_task(config, Targets.unnamed(kind, num_targets)), config


def test_a_probe_is_the_logistic_regression_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", 300), ("val", 200), ("test", 200)):
        features = generator.normal(size=(count, 12))
        labels = (features[:, :3] + 0.7 * generator.normal(size=(count, 3))).argmax(1)
        splits[split] = torch.from_numpy(features).float(), torch.from_numpy(labels)
    task, config = task_of(CLASS_INDEX, 3)
    found = probe(task, config, splits)
    mean, std = splits["train"][0].mean(0), splits["train"][0].std(0)
    scaled = {split: ((values - mean) / std, labels) for split, (values, labels) in splits.items()}
    scores = {}
    for strength in STRENGTHS:
        peer = LogisticRegression(C=strength, max_iter=2000, tol=1e-8).fit(*scaled["train"])
        scores[strength] = {split: peer.score(*pair) for split, pair in scaled.items()}
        own = fit(task, scaled["train"], strength)(scaled["test"][0]).softmax(1).detach().numpy()
        assert np.abs(own - peer.predict_proba(scaled["test"][0])).max() < 2e-3
    best = max(sorted(STRENGTHS), key=lambda one: scores[one]["val"])
    assert found.strength == best
    for split, metrics in found.metrics.items():
        assert metrics["top1"] == pytest.approx(scores[best][split], abs=0.011)
    most_frequent = splits["train"][1].bincount().argmax()
    assert found.constant["top1"] == pytest.approx(float((splits["val"][1] == most_frequent).float().mean()))


def test_a_probe_for_values_is_ridge_regression() -> None:
    generator = np.random.default_rng(1)
    features = torch.from_numpy(generator.normal(size=(200, 5))).float()
    values = features @ torch.tensor([[1.0], [-2.0], [0.5], [0.0], [3.0]]) + 4
    task, _ = task_of(VALUES, 1, "task=regression")
    own = fit(task, (features, values), 0.1)
    # Mean squared error over N + |w|^2 / (2 C N) is 1/N times the objective of Ridge with alpha = 1 / (2 C).
    peer = Ridge(alpha=1 / (2 * 0.1)).fit(features, values[:, 0])
    assert own.weight.detach().numpy()[0] == pytest.approx(peer.coef_, abs=1e-3)
    assert own.bias.item() == pytest.approx(peer.intercept_, abs=1e-3)


def test_a_probe_of_a_run(convoy: Convoy, trained: Trained) -> None:
    done = convoy("probe", f"run={trained.folder}")
    assert done.code == 0, done.err
    record = json.loads((trained.folder / "probe-digits-penultimate.json").read_text())
    summary = json.loads((trained.folder / "summary.json").read_text())
    # The network's own head is one of the linear classifiers that the probe chooses from.
    assert record["metrics"]["test"]["top1"] > summary["test/top1"] - 0.03
    assert f"{record['metrics']['test']['top1']:.2%}" in done.out
    first = convoy("probe", f"run={trained.folder}", "layer=features.7")
    assert first.code == 0, first.err
    assert json.loads((trained.folder / "probe-digits-features.7.json").read_text())["num_features"] == 16 * 4 * 4


@pytest.mark.parametrize(
    ("verb", "words", "message"),
    [
        ("features", ["layer=fc7"], "layer=fc7: the network has no such layer"),
        ("features", ["split=tset"], "did you mean test?"),
        ("features", ["layr=fc1"], "layr=fc1: features has no such key; did you mean layer?"),
        ("features", ["model=vgg16"], "model=vgg16: can't be changed by features"),
        ("features", ["output="], "output: needs a value"),
        ("probe", ["layer=feature.0"], "did you mean features.0?"),
        ("probe", ["split=val"], "probe has no such key"),
        ("probe", ["data.image_size=3"], "data"),
    ],
)
def test_a_mistake_is_reported_and_nothing_is_written(
    convoy: Convoy, trained: Trained, verb: str, words: list[str], message: str
) -> None:
    before = sorted(trained.folder.rglob("*"))
    done = convoy(verb, f"run={trained.folder}", *words)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert sorted(trained.folder.rglob("*")) == before


def test_a_list_of_modules_has_no_output() -> None:
    network = nn.Module()
    network.layers = nn.ModuleList([nn.Linear(2, 2)])
    network.forward = lambda images: network.layers[0](images)  # type: ignore[method-assign]
    batches = [(torch.zeros(1, 2), torch.zeros(1))]
    data = SimpleNamespace(
        check_split=lambda _: None, device="cpu", autocast=nullcontext, batches=lambda _: iter(batches)
    )
    run = SimpleNamespace(network=network)
    layer = tap(network, "layers", 2)
    with pytest.raises(UserError, match=r"layer=layers: is not called by the network itself; choose one of its subm"):
        next(Source(run, data, layer).batches("test"))  # type: ignore[arg-type]


def test_existing_features_are_not_overwritten(convoy: Convoy, trained: Trained, tmp_path: Path) -> None:
    written(convoy, tmp_path / "a", f"run={trained.folder}")
    done = convoy("features", f"run={trained.folder}", f"output={tmp_path / 'a'}")
    assert done.code == 2
    assert "exists already; remove it, or choose another with output=<folder>" in done.err
