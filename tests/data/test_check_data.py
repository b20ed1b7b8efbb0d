"""Tests of check_data: each fault, and the shipped options without a fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.config.degradation_schema import DegradationConfig
from convoy.config.image_size import sides_of
from convoy.data.check import check_data, num_targets
from convoy.data.images.resize import fit_images
from convoy.data.source_names import SOURCES
from convoy.data.sources.digits import read_digits
from convoy.data.sources.mnist import FASHION_MNIST, read_fashion_mnist
from convoy.data.sources.registry import READERS

OPTIONS = sorted((Path(__file__).parents[2] / "conf" / "data").glob("*.yaml"))


def settings_of(option: Path) -> dict[str, Any]:
    """Return the settings of an option and of those that it is based on."""
    settings: dict[str, Any] = yaml.safe_load(option.read_text())
    for base in settings.pop("defaults", ()):
        if isinstance(base, str) and base != "_self_":
            settings = {**settings_of(option.parent / f"{base}.yaml"), **settings}
    return settings


def load(option: Path) -> DataConfig:
    settings = settings_of(option)
    settings.pop("card", None)
    degradation = DegradationConfig(**settings.pop("degradation", {}))
    if settings.get("target") == "${task.target}":
        settings["target"] = "class_index"
    augment = AugmentConfig(**settings.pop("augment", {}))
    return DataConfig(**settings, augment=augment, degradation=degradation)


def valid(**changes: Any) -> DataConfig:
    settings = {
        "name": "x",
        "source": "mnist",
        "channels": 1,
        "image_size": 32,
        "fit": "pad",
        "mean": [0.1],
        "std": [0.3],
    }
    return DataConfig(**(settings | changes))


def test_sources_are_those_that_can_be_read() -> None:
    assert set(SOURCES) == {
        *READERS,
        "image_folder",
        "table",
        "dataset",
        "torchvision",
        "huggingface",
        "shards",
        "segmentation_folder",
        "restoration_folder",
        "coco_keypoints",
    }


@pytest.mark.parametrize("option", OPTIONS, ids=lambda path: path.stem)
def test_shipped_options_are_sound(option: Path, tmp_path: Path) -> None:
    data = load(option)
    assert data.name == option.stem
    assert option.read_text().startswith("# ")
    if data.source == "restoration_folder":
        keys = [fault.key for fault in check_data(data)]
        assert keys == ["data.root"] if data.degradation.scale > 1 else ["data.degradation", "data.root"]
        return
    if data.source == "segmentation_folder":
        assert {fault.key for fault in check_data(data)} == {"data.root" if data.num_classes else "data.classes"}
        return
    # VGG halves the image five times.
    assert all(side % 32 == 0 for side in sides_of(data.image_size))
    if data.source == "image_folder":
        assert [str(fault) for fault in check_data(data)] == [
            "data.root=null: is missing; give the folder with train/ and val/, each with one folder of images per class"
        ]
        for name in range(data.num_classes or 2):
            (tmp_path / "train" / str(name)).mkdir(parents=True)
        data.root = str(tmp_path)
    if data.source == "torchvision":
        assert "data.name=torchvision: is no classification set of torchvision" in str(check_data(data)[0])
        data.name = "Flowers102"
    if data.source == "dataset":
        assert [fault.key for fault in check_data(data)] == ["data.train", "data.num_classes"]
        return
    if data.source == "table":
        keys = ["data.file", "data.image_column"]
        assert [fault.key for fault in check_data(data)] == (
            keys if data.target == "keypoints" else [*keys, "data.target_column"]
        )
        return
    if data.source in ("shards", "huggingface"):
        assert [fault.key for fault in check_data(data)] == ["data.root"]
        return
    if data.source == "coco_keypoints":
        assert [fault.key for fault in check_data(data)] == ["data.file"]
        return
    assert check_data(data) == []


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"source": "mnits"}, "data.source", "did you mean mnist?"),
        (
            {"patches_per_image": 4},
            "data.patches_per_image",
            "requires data.source=restoration_folder; write data=rest",
        ),
        ({"degradation": DegradationConfig(scale=2)}, "data.degradation", "requires data.source=restoration_folder"),
        ({"mask_folder": "labels"}, "data.mask_folder", "requires data.source=segmentation_folder"),
        ({"point_pairs": [["a", "b"]]}, "data.point_pairs", "requires data.source=table or coco_keypoints"),
        ({"source": "zzz"}, "data.source", "choose from digits, fashion_mnist"),
        ({"source": "???"}, "data.source", "choose from"),
        ({"channels": 2}, "data.channels", "has images of 1 (gray) or 3 (RGB) channels; write 1 or 3"),
        ({"image_size": 0}, "data.image_size", "at least 1"),
        ({"image_size": "???"}, "data.image_size", "is missing"),
        ({"image_size": 24}, "data.image_size", "less than the 28 pixels of mnist"),
        ({"num_classes": 11}, "data.num_classes", "mnist has 10 classes"),
        ({"num_classes": 1}, "data.num_classes", "at least 2"),
        ({"fit": "crop"}, "data.fit", "must be resize or pad"),
        ({"on_bad_image": "skipp"}, "data.on_bad_image", "did you mean skip?"),
        ({"num_workers": 0}, "data.num_workers", "at least 1"),
        ({"eval_resize": 40}, "data.eval_resize", "applies only to image folders"),
        ({"test_fraction": 0.1}, "data.test_fraction", "applies only to image folders, tables and data sets"),
        ({"file": "labels.csv"}, "data.file", "requires data.source=table"),
        ({"split_column": "part"}, "data.split_column", "requires data.source=table"),
        ({"target_column": ["a", "b"]}, "data.target_column", "requires data.source=table or huggingface"),
        ({"target": "values"}, "data.target", "has one class per image"),
        ({"val_fraction": 0.0}, "data.val_fraction", "between 0 and 1"),
        ({"val_fraction": 1.0}, "data.val_fraction", "between 0 and 1"),
        ({"channels": 3, "mean": [0.1, 0.2]}, "data.mean", "one number, or one per channel"),
        ({"mean": []}, "data.mean", "one number"),
        ({"mean": [33.3]}, "data.mean", "divide by 255"),
        ({"std": [0.0]}, "data.std", "above 0"),
        ({"std": "???"}, "data.std", "one number"),
        ({"root": "/no/such/folder"}, "data.root", "is not a folder"),
        ({"augment": AugmentConfig(pad_crop=-1)}, "data.augment.pad_crop", "at least 0"),
        ({"augment": AugmentConfig(cutout=32)}, "data.augment.cutout", "less than data.image_size=32"),
        (
            {"augment": AugmentConfig(random_resized_crop=[0.5, 1.0])},
            "data.augment.random_resized_crop",
            "applies only to images that are read from files",
        ),
        ({"augment": AugmentConfig(rotation=190)}, "data.augment.rotation", "0 to 180"),
        ({"augment": AugmentConfig(rand_augment=[2])}, "data.augment.rand_augment", "[2,9] is usual"),
        ({"augment": AugmentConfig(rand_augment=[2, 31])}, "data.augment.rand_augment", "magnitude must be 0 to 30"),
        ({"augment": AugmentConfig(auto_augment="cifar")}, "data.augment.auto_augment", "did you mean cifar10?"),
        (
            {"augment": AugmentConfig(rand_augment=[2, 9], augmix=3)},
            "data.augment.augmix",
            "can't be combined with data.augment.rand_augment",
        ),
        ({"augment": AugmentConfig(color_jitter=[1, 1, 1, 0.6])}, "data.augment.color_jitter", "hue must be 0 to 0.5"),
        ({"augment": AugmentConfig(erasing=1.5)}, "data.augment.erasing", "0 to 1"),
        ({"augment": AugmentConfig(pca_lighting=0.1)}, "data.augment.pca_lighting", "needs data.channels=3"),
        (
            {"augment": AugmentConfig(blur=0.5), "image_size": 6, "fit": "resize"},
            "data.augment.blur",
            "needs data.image_size=7 or more",
        ),
        ({"augment": AugmentConfig(scale_jitter=[40, 64])}, "data.augment.scale_jitter", "read from files"),
    ],
)
def test_one_fault(changes: dict[str, Any], key: str, words: str) -> None:
    faults = [fault for fault in check_data(valid(**changes)) if fault.key == key]
    assert any(words in str(fault) for fault in faults), check_data(valid(**changes))


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"augment": AugmentConfig(random_resized_crop=[0.5])}, "data.augment.random_resized_crop", "[smallest"),
        ({"augment": AugmentConfig(random_resized_crop=[0.5, 1.5])}, "data.augment.random_resized_crop", "<= 1"),
        (
            {"augment": AugmentConfig(random_resized_crop=[0.5, 1.0], pad_crop=4)},
            "data.augment.pad_crop",
            "can't be combined with random_resized_crop",
        ),
        ({"augment": AugmentConfig(scale_jitter=[20, 40])}, "data.augment.scale_jitter", "[27,55] is usual"),
        ({"eval_resize": 20}, "data.eval_resize", "must not be less than data.image_size=24"),
        ({"fit": "pad"}, "data.fit", "use data.fit=resize"),
        ({"num_classes": 4}, "data.num_classes", "has 3 classes"),
    ],
)
def test_one_fault_of_a_folder(
    digits_folder: Path, folder_data: Any, changes: dict[str, Any], key: str, words: str
) -> None:
    (fault,) = check_data(folder_data(digits_folder, **changes))
    assert fault.key == key
    assert words in str(fault)


def test_all_faults_at_once() -> None:
    data = valid(channels=5, fit="x", val_fraction=2.0, num_workers=0, root="/no/such/folder")
    assert [fault.key for fault in check_data(data)] == [
        "data.num_workers",
        "data.val_fraction",
        "data.fit",
        "data.channels",
        "data.root",
    ]


def test_number_of_classes(digits_folder: Path, folder_data: Any) -> None:
    assert num_targets(valid()) == 10
    assert num_targets(valid(source="cifar100")) == 100
    assert num_targets(folder_data(digits_folder)) == 3
    assert num_targets(folder_data(digits_folder, num_classes=7)) == 7


@pytest.mark.parametrize("name", ["digits", "fashion_mnist"])
def test_shipped_statistics_are_those_of_the_images(name: str) -> None:
    if name == "fashion_mnist" and (FASHION_MNIST.system is None or not FASHION_MNIST.system.is_dir()):
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    data = load(OPTIONS[0].with_stem(name))
    images = (read_digits if name == "digits" else read_fashion_mnist)(data).train.images
    pixels = fit_images(images, 32, "resize").double() / 255 if name == "digits" else images.double() / 255
    assert data.mean == pytest.approx([float(pixels.mean())], abs=5e-5)
    assert data.std == pytest.approx([float(torch.std(pixels, correction=0))], abs=5e-5)
