"""Tests of map-style data sets of the user, against the image folder with the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.config.trust import TRUST
from convoy.data.check import check_data, num_targets
from convoy.data.data_module import ImageData


class Shades:
    """Data set of images of one gray shade each, in a given form."""

    def __init__(self, form: str = "pil", count: int = 12, target: Any = None) -> None:
        self.form = form
        self.count = count
        self.target = target

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        if index >= self.count:
            raise IndexError(index)
        array = np.full((10, 12, 3), index * 20, dtype=np.uint8)
        forms = {
            "pil": lambda: Image.fromarray(array),
            "pil_palette": lambda: Image.fromarray(array).convert("P", palette=Image.Palette.ADAPTIVE),
            "array": lambda: array,
            "gray_array": lambda: array[:, :, 0],
            "tensor": lambda: torch.from_numpy(array).permute(2, 0, 1),
            "gray_tensor": lambda: torch.from_numpy(array[:, :, :1]).permute(2, 0, 1),
            "float": lambda: torch.zeros(3, 10, 12),
            "none": lambda: None,
            "broken": lambda: Image.open("/no/such/file.png"),
            "bug": lambda: {}["missing"],  # type: ignore[misc]
        }
        return forms[self.form](), index % 3 if self.target is None else self.target


class Named(Shades):
    classes = ("a", "b", "c")


class Random(Shades):
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.full((3, 16, 16), 120, dtype=torch.uint8)
        return v2.ColorJitter(brightness=0.5)(image), index % 3


class Unsized:
    def __getitem__(self, index: int) -> None: ...


def node(kind: type, **arguments: Any) -> dict[str, Any]:
    """Return a `_target_` that is declared as written by the user."""
    declared = {"_target_": f"{kind.__module__}.{kind.__qualname__}", **arguments}
    TRUST.add_composed(OmegaConf.create({"data": declared}))
    return declared


def dataset_data(**changes: Any) -> DataConfig:
    settings: dict[str, Any] = {
        "name": "shades",
        "source": "dataset",
        "num_classes": 3,
        "image_size": 8,
        "mean": [0.0],
        "std": [1.0],
        "num_workers": 2,
    }
    return DataConfig(**(settings | changes))


def opened(data: DataConfig) -> ImageData:
    module = ImageData(data, seed=1, micro_batch_size=4, accumulation=1, eval_batch_size=5)
    module.open()
    return module


def shades(module: ImageData, split: str) -> tuple[list[int], list[Any]]:
    """Return the number of each image's shade and the targets of a split."""
    batches = list(module.evaluation_loader(split))
    values = torch.cat([batch.images for batch in batches])
    assert values.shape[1:] == (3, 8, 8)
    means = (values.mean(dim=(1, 2, 3)) * 255 / 20).round().int()
    return means.tolist(), torch.cat([batch.targets for batch in batches]).tolist()


@pytest.mark.parametrize("form", ["pil", "pil_palette", "array", "gray_array", "tensor", "gray_tensor"])
def test_every_form_of_an_image(form: str) -> None:
    data = dataset_data(train=node(Shades, form=form), val=node(Shades, form=form, count=7))
    assert check_data(data) == []
    module = opened(data)
    assert module.sizes == {"train": 12, "val": 7, "test": 0}
    assert shades(module, "val") == ([0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 0, 1, 2, 0])
    seen = [batch.targets for batch in module.training_loader(0)]
    assert [targets.dtype for targets in seen] == [torch.int64] * 3
    assert torch.cat(seen).bincount().tolist() == [4, 4, 4]


def test_splits_that_are_missing_are_held_out() -> None:
    module = opened(dataset_data(train=node(Shades), val_fraction=0.25, test_fraction=0.25))
    assert module.sizes == {"train": 7, "val": 2, "test": 3}
    found = [shade for split in ("train", "val", "test") for shade in shades(module, split)[0]]
    assert sorted(found) == list(range(12))
    assert all(label == shade % 3 for shade, label in zip(*shades(module, "val"), strict=True))
    assert "shades has no val split: 2 images of train were held out for val." in module.notes


def test_the_same_images_as_a_folder(digits_folder: Path, folder_data: Any) -> None:
    augment = AugmentConfig(random_resized_crop=[0.3, 1.0], flip=True)
    folder = folder_data(digits_folder, augment=augment)
    splits = {split: node(ImageFolder, root=str(digits_folder / split)) for split in ("train", "val")}
    data = folder_data(Path("none"), source="dataset", num_classes=3, augment=augment, **splits)
    ours, theirs = opened(data), opened(folder)
    assert ours.targets == theirs.targets
    assert ours.sizes == theirs.sizes
    for loaders in (
        (ours.training_loader(0), theirs.training_loader(0)),
        (ours.evaluation_loader("val"), theirs.evaluation_loader("val")),
    ):
        for mine, other in zip(*loaders, strict=True):
            assert torch.equal(mine.targets, other.targets)
            # The folder's loader may decode a JPEG smaller, torchvision's loader decodes it whole.
            assert float((mine.images - other.images).abs().mean()) < 0.05


def test_known_classes_are_counted_and_split_by_class(digits_folder: Path, folder_data: Any) -> None:
    train = node(ImageFolder, root=str(digits_folder / "train"))
    module = opened(folder_data(Path("none"), source="dataset", num_classes=3, train=train, val_fraction=0.2))
    assert module.class_counts().tolist() == [16, 16, 16]
    assert labels_of(module, "val") == [0] * 4 + [1] * 4 + [2] * 4
    with pytest.raises(UserError, match="has no attribute `targets` with the class of each image"):
        opened(dataset_data(train=node(Shades))).class_counts()


def labels_of(module: ImageData, split: str) -> list[int]:
    return [label for batch in module.evaluation_loader(split) for label in batch.targets.tolist()]


def test_classes_of_the_data_set_are_its_names() -> None:
    assert opened(dataset_data(train=node(Named))).classes == ("a", "b", "c")
    assert opened(dataset_data(train=node(Shades))).classes == ("0", "1", "2")
    with pytest.raises(UserError, match=r"data.num_classes=4: Named.classes has 3 names; write data.num_classes=3"):
        opened(dataset_data(train=node(Named), num_classes=4))


class Some(Shades):
    """Data set with two of the classes of `Named`, in another order, or with one more."""

    def __init__(self, classes: list[str]) -> None:
        super().__init__("pil", 12)
        self.classes = classes
        self.targets = [index % len(classes) for index in range(12)]

    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(index)[0], self.targets[index]


def test_classes_of_val_are_matched_by_name() -> None:
    module = opened(dataset_data(train=node(Named), val=node(Some, classes=["c", "a"])))
    assert shades(module, "val") == (list(range(12)), [2, 0] * 6)
    assert "val of shades has no images of b; their results are empty." in module.notes
    with pytest.raises(UserError, match=r"data.val=Some: has classes that train does not have: d; remove"):
        opened(dataset_data(train=node(Named), val=node(Some, classes=["c", "d"])))


@pytest.mark.parametrize(
    ("kind", "number", "target", "expected"),
    [
        ("values", 1, 2.5, [2.5]),
        ("values", 2, [1, -3.5], [1.0, -3.5]),
        ("values", 2, torch.tensor([4, 5]), [4.0, 5.0]),
        ("multi_hot", 3, [1, 0, 1], [1.0, 0.0, 1.0]),
        ("multi_hot", 2, np.array([True, False]), [1.0, 0.0]),
        ("class_index", 3, np.int64(2), 2),
        ("class_index", 3, torch.tensor([1]), 1),
    ],
)
def test_targets_of_each_kind(kind: str, number: int, target: Any, expected: Any) -> None:
    train = node(Shades)
    module = opened(dataset_data(train=train, target=kind, num_classes=number, val_fraction=0.5))
    for split in module._set.evaluation.values():
        split._pictures._dataset.target = target  # type: ignore[attr-defined]
    _, targets = shades(module, "val")
    assert targets == [expected] * 6


@pytest.mark.parametrize(
    ("kind", "number", "target", "message"),
    [
        ("class_index", 3, 3, r"returns the target 3; return an integer from 0 to 2 \(data.num_classes=3\)"),
        ("class_index", 3, 0.0, "returns the target 0.0; return an integer"),
        ("class_index", 3, "cat", "returns the target 'cat'; return an integer"),
        ("multi_hot", 2, [1, 2], "return 2 numbers, each 0 or 1"),
        ("values", 2, [1.0], "return 2 finite numbers"),
        ("values", 1, float("nan"), "return 1 finite numbers"),
    ],
)
def test_targets_that_do_not_fit(kind: str, number: int, target: Any, message: str) -> None:
    module = opened(dataset_data(train=node(Shades, target=target), target=kind, num_classes=number))
    with pytest.raises(UserError, match=rf"data.train: Shades\[\d+\] .*{message}"):
        shades(module, "train")


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (
            "float",
            r"returns an image that is Tensor of torch.float32 \[3, 10, 12\]; return a PIL image, a uint8 tensor",
        ),
        ("none", "returns an image that is NoneType"),
        ("bug", r"raises KeyError: 'missing'; see .*test_dataset_images.py, line \d+"),
        ("broken", r"Shades\[0\] can't be decoded \(.*/no/such/file.png.*on_bad_image=skip"),
    ],
)
def test_images_that_do_not_fit(form: str, message: str) -> None:
    module = opened(dataset_data(train=node(Shades), val=node(Shades, form=form)))
    with pytest.raises(UserError, match=message):
        shades(module, "val")


def test_unreadable_images_can_be_skipped() -> None:
    data = dataset_data(train=node(Shades), val=node(Shades, form="broken", count=1), on_bad_image="skip")
    module = opened(data)
    with pytest.raises(UserError, match="none of the 1 images of a batch"):
        shades(module, "val")
    assert list(module.skipped_images) == ["Shades[0]"]


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        ({"train": None}, "data.train", "is missing; write train: {_target_"),
        ({"train": {"root": "x"}}, "data.train", "has no _target_"),
        ({"val": {"_target_": "os.system"}}, "data.val._target_", "neither built in nor named"),
        ({"num_classes": None}, "data.num_classes", "can't be counted before the data set is built"),
        ({"source": "digits", "channels": 1, "num_classes": 10}, "data.train", "requires data.source=dataset"),
    ],
)
def test_faults_that_a_check_finds(changes: dict[str, Any], key: str, message: str) -> None:
    (fault,) = check_data(dataset_data(**({"train": node(Shades)} | changes)))
    assert fault.key == key
    assert message in str(fault)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (lambda: node(Unsized), "builds Unsized, which is not a map-style data set"),
        (lambda: node(Shades, colour=1), "data.train.colour=1: .*no such argument"),
        (
            lambda: node(ImageFolder, root="/no/such/folder"),
            r"ImageFolder can't be built \(FileNotFoundError: ",
        ),
    ],
)
def test_a_data_set_that_cannot_be_built(train: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        opened(dataset_data(train=train()))


def test_torchs_random_numbers_in_it_follow_from_the_sample() -> None:
    data = dataset_data(train=node(Random, count=32), num_workers=1)
    first = torch.cat([batch.images for batch in opened(data).training_loader(0)])
    data.num_workers = 4
    assert torch.equal(torch.cat([batch.images for batch in opened(data).training_loader(0)]), first)
    rest = torch.cat([batch.images for batch in opened(data).training_loader(3)])
    assert torch.equal(rest, first[12:])
    assert len(first.mean(dim=(1, 2, 3)).unique()) > 10


def test_number_of_classes() -> None:
    assert num_targets(dataset_data()) == 3
    with pytest.raises(UserError, match="can't be counted before the data set is built"):
        num_targets(dataset_data(num_classes=None))


CODE = """
import numpy as np
from torch.utils.data import Dataset


class Stripes(Dataset):
    classes = ["across", "down"]

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int):
        image = np.zeros((20, 20, 3), dtype=np.uint8)
        image[index % 3 :: 4] = 255
        return (image, 0) if index % 2 else (image.transpose(1, 0, 2), 1)


def darker(strength: float):
    return lambda image: image // int(1 / strength)
"""

OPTION = """
defaults: [dataset]
name: stripes
train: {_target_: stripes.Stripes, count: 64}
val: {_target_: stripes.Stripes, count: 16}
num_classes: 2
image_size: 16
eval_resize: 20
mean: [0.5]
std: [0.5]
augment:
  random_resized_crop: null
  pad_crop: 2
transforms:
  - {_target_: torchvision.transforms.v2.ColorJitter, brightness: 0.2}
  - {_target_: stripes.darker, strength: 0.5}
"""


def test_a_run_trains_resumes_and_is_evaluated_on_it(convoy: Any, tmp_path: Path) -> None:
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "stripes.yaml").write_text(OPTION)
    (tmp_path / "stripes.py").write_text(CODE)
    words = [
        "--config-dir",
        "conf",
        "data=stripes",
        "trainer.global_batch_size=16",
        "optimizer.lr=0.05",
        "scheduler=constant",
    ]
    words += [
        "logger=csv",
        "model.layers=[CONV3-8,POOL4,FC-2]",
        "trainer.gpus=0",
        "trainer.precision=32",
        "hardware.cpu_threads=1",
    ]
    whole = convoy("train", *words, "trainer.max_epochs=6", "folder=whole", folder="whole")
    assert whole.code == 0, whole.err
    assert float(whole.rows()[-1]["val/top1"]) == 1.0
    words += ["trainer.max_epochs=6", "trainer.max_steps=10"]
    assert convoy("train", *words, "folder=part").code == 0
    resumed = convoy("train", "resume=part", "--config-dir", "conf", "trainer.max_steps=null", folder=None)
    assert resumed.code == 0, resumed.err
    assert whole.rows()[-1] == read_last(tmp_path / "part")
    evaluated = convoy("evaluate", "--config-dir", "conf", "run=whole", "split=val", folder=None)
    assert evaluated.code == 0, evaluated.err


def read_last(folder: Path) -> dict[str, str]:
    from tests.conftest import read_rows

    return read_rows(folder)[-1]
