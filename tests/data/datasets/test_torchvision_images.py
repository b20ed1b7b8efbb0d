"""Tests of torchvision's sets by name, against the classes of torchvision on hand-made files in their formats."""

from __future__ import annotations

import inspect
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image
from tests.conftest import FASHION_MNIST, TINY, Run, needs_fashion_mnist
from tests.data.loader_checks import check_resume_and_ranks

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.data.check import check_data, num_targets
from convoy.data.data_module import ImageData
from convoy.data.datasets.torchvision_sets import SETS
from convoy.data.sources.mnist import read_idx


def config(name: str, root: Path, **changes: Any) -> DataConfig:
    settings: dict[str, Any] = {
        "source": "torchvision",
        "download": False,
        "channels": 3,
        "image_size": 16,
        "mean": [0.0],
        "std": [1.0],
        "augment": AugmentConfig(),
        "num_workers": 2,
    }
    return DataConfig(name=name, root=str(root), **(settings | changes))


def save(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(number).integers(0, 255, (16, 16, 3)).astype(np.uint8)).save(path)


@pytest.fixture
def textures(tmp_path: Path) -> Path:
    """Write the Describable Textures Dataset with 47 classes of three images."""
    lists: dict[str, list[str]] = {"train1": [], "val1": [], "test1": []}
    folder = tmp_path / "dtd" / "dtd"
    for label in range(47):
        for number, split in enumerate(lists):
            name = f"class{label:02}/{number}.png"
            save(folder / "images" / name, 3 * label + number)
            lists[split].append(name)
    (folder / "labels").mkdir()
    for split, names in lists.items():
        (folder / "labels" / f"{split}.txt").write_text("\n".join(names))
    return tmp_path


@pytest.fixture
def satellite(tmp_path: Path) -> Path:
    """Write EuroSAT, which has no splits, with ten classes of six images."""
    for label in range(10):
        for number in range(6):
            save(tmp_path / "eurosat" / "2750" / f"Land{label}" / f"{number}.png", 6 * label + number)
    return tmp_path


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """Write EMNIST's letters, whose classes begin at 1, as idx files."""
    folder = tmp_path / "EMNIST" / "raw"
    folder.mkdir(parents=True)
    for part, count in (("train", 52), ("test", 26)):
        pixels = np.random.default_rng(count).integers(0, 255, (count, 28, 28)).astype(np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 26 + 1
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            header = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
            for variant in torchvision.datasets.EMNIST.splits:
                (folder / f"emnist-{variant}-{part}-{kind}-ubyte").write_bytes(header + array.tobytes())
    return tmp_path


def opened(data: DataConfig) -> ImageData:
    module = ImageData(data, seed=1, micro_batch_size=4, accumulation=1, eval_batch_size=500)
    module.open()
    return module


def content(module: ImageData, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    (batch,) = module.evaluation_loader(split)
    return (batch.images * 255).round().to(torch.uint8), batch.targets


def content_of(dataset: Any) -> tuple[torch.Tensor, torch.Tensor]:
    images = [torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) for image, _ in dataset]
    return torch.stack(images), torch.tensor([int(label) for _, label in dataset])


def test_every_set_exists_with_its_splits() -> None:
    for name, facts in SETS.items():
        kind = getattr(torchvision.datasets, name)
        parameters = {key for base in kind.__mro__[:2] for key in inspect.signature(base.__init__).parameters}
        for split in ("train", "val", "test"):
            assert set(facts.arguments(split) or {}) <= parameters, name
        assert facts.variant is None or facts.variant in parameters
        assert facts.splits or "split" not in parameters or name == "EMNIST", name
        if isinstance(names := getattr(kind, "classes", None), list):
            assert len(names) == facts.num_classes or name == "EMNIST", name


def test_splits_of_a_set(textures: Path) -> None:
    data = config("DTD", textures)
    assert check_data(data) == []
    assert num_targets(data) == 47
    module = opened(data)
    assert module.sizes == {"train": 47, "val": 47, "test": 47}
    for split in ("train", "val", "test"):
        dataset = torchvision.datasets.DTD(textures, split=split)
        for ours, theirs in zip(content(module, split), content_of(dataset), strict=True):
            assert torch.equal(ours, theirs)
    assert module.classes == tuple(dataset.classes)
    assert module.class_counts().tolist() == [1] * 47


def test_a_set_without_splits_is_divided(satellite: Path) -> None:
    module = opened(config("EuroSAT", satellite, val_fraction=0.2, test_fraction=1 / 6))
    assert module.sizes == {"train": 40, "val": 10, "test": 10}
    assert module.class_counts().tolist() == [4] * 10
    images, labels = content_of(torchvision.datasets.EuroSAT(satellite))
    expected = sorted((image.numpy().tobytes(), int(label)) for image, label in zip(images, labels, strict=True))
    found = [zip(*content(module, split), strict=True) for split in module.sizes]
    assert sorted((image.numpy().tobytes(), int(label)) for pairs in found for image, label in pairs) == expected


def test_arguments_of_a_set(letters: Path) -> None:
    data = config("EMNIST", letters, arguments={"split": "letters"}, image_size=28, val_fraction=0.5)
    assert num_targets(data) == 27
    module = opened(data)
    assert module.sizes == {"train": 26, "val": 26, "test": 26}
    dataset = torchvision.datasets.EMNIST(letters, split="letters", train=False)
    for ours, theirs in zip(content(module, "test"), content_of(dataset), strict=True):
        assert torch.equal(ours, theirs)
    assert list(module.classes) == dataset.classes


@needs_fashion_mnist
@pytest.mark.slow
def test_fashion_mnist_of_debian(tmp_path: Path) -> None:
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for path in FASHION_MNIST.glob("*.gz"):
        array = read_idx(path, 3 if "images" in path.name else 1).numpy()
        header = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
        (folder / path.stem).write_bytes(header + array.tobytes())
    module = opened(config("FashionMNIST", tmp_path, channels=1, image_size=28))
    assert module.sizes == {"train": 54_000, "val": 6_000, "test": 10_000}
    dataset = torchvision.datasets.FashionMNIST(tmp_path, train=False)
    batches = list(module.evaluation_loader("test"))
    images = (torch.cat([batch.images for batch in batches]) * 255).round().to(torch.uint8)
    assert torch.equal(images[:, 0], dataset.data)
    assert torch.equal(torch.cat([batch.targets for batch in batches]), dataset.targets)
    assert list(module.classes) == dataset.classes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"name": "Flower102"},
            "data.name=Flower102: is no classification set of torchvision; did you mean Flowers102?",
        ),
        ({"name": "zzz"}, "choose from Caltech101, Caltech256, CIFAR10"),
        ({"num_classes": 3}, "data.num_classes=3: DTD has 47 classes; write data.num_classes=null"),
        ({"name": "EMNIST"}, "EMNIST needs the argument split; write 'data.arguments={split: …}' with one of byclass"),
        ({"name": "EMNIST", "arguments": {"split": "abc"}}, "data.arguments={split: abc}: no such split"),
        ({"source": "mnist", "channels": 1, "arguments": {"a": 1}}, "requires data.source=torchvision"),
    ],
)
def test_fault_of_a_setting(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    faults = check_data(DataConfig(**(vars(config("DTD", tmp_path)) | changes)))
    assert any(message in str(fault) for fault in faults), faults


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arguments": {"partitoin": 2}}, "DTD has no argument partitoin that can be set; did you mean partition?"),
        ({"arguments": {"split": "val"}}, "DTD has no argument split that can be set; it has partition"),
        ({"arguments": {"partition": [1]}}, "torchvision refuses the arguments"),
        ({"name": "EuroSAT"}, "EuroSAT is not in .*; data.download=true downloads it"),
    ],
)
def test_fault_of_building(textures: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        opened(DataConfig(**(vars(config("DTD", textures)) | changes)))


def test_an_incomplete_set_is_refused(textures: Path) -> None:
    for split in ("train1", "val1", "test1"):
        (textures / "dtd" / "dtd" / "labels" / f"{split}.txt").write_text("class00/0.png\nclass01/0.png")
    with pytest.raises(
        UserError, match=r"train of DTD in .* has 2 classes instead of 47; replace it with a complete copy"
    ):
        opened(config("DTD", textures))


def test_resume_and_ranks(satellite: Path) -> None:
    check_resume_and_ranks(config("EuroSAT", satellite))


@pytest.mark.slow
def test_a_run_trains_and_resumes_on_it(convoy: Callable[..., Run], textures: Path) -> None:
    words = ["data=torchvision", "data.name=DTD", f"data.root={textures}", "data.arguments={partition: 1}"]
    words += [word for word in TINY if not word.startswith("model")]
    words += ["model.layers=[POOL4,FC-47]", "data.image_size=16", "data.eval_resize=16", "scheduler=constant"]
    words += ["trainer.global_batch_size=8"]
    whole = convoy("train", *words, folder="whole")
    assert whole.code == 0, whole.err
    assert convoy("train", *words, "trainer.max_steps=3", folder="part").code == 0
    resumed = convoy("train", "resume=part", "trainer.max_steps=null", folder=None)
    assert resumed.code == 0, resumed.err
    expected = whole.checkpoint()["state_dict"]
    weights = torch.load(textures / "part" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
