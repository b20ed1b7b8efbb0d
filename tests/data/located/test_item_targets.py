"""Tests of data sets in Python with masks, key points and images as targets, against files with the same content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from tests.conftest import Run
from torchvision.datasets import VOCSegmentation

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.config.degradation_schema import DegradationConfig
from convoy.config.faults import UserError
from convoy.config.trust import TRUST
from convoy.data.check import check_data, num_targets
from convoy.data.data_module import ImageData
from convoy.data.degradation.degrade import degraded
from convoy.data.inspection.inspect_data import chosen_samples, inspect_data
from convoy.data.inspection.target_counts import count_targets

POINTS = ("snout", "leftear", "rightear")
SPLITS = {"train": 8, "val": 3}
FLIPS = AugmentConfig(scale_jitter=[40, 60], flip=True, rotation=20)
VOC = "VOCdevkit/VOC2012"


class Folder:
    """Images below a folder with the masks, the points or the gray images of the same name."""

    def __init__(self, root: str, split: str, form: str = "pil") -> None:
        self.paths = sorted(Path(root, split, "images").iterdir())
        self.form = form

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        path = self.paths[index]
        image = Image.open(path)
        if self.form in ("colorization", "reduced", "enlarged"):
            pixels = np.array(image)
            gray = degraded(pixels, DegradationConfig(gray=True), 0)[:, :, 0]
            if self.form == "enlarged":
                return gray, np.stack([gray.repeat(3, 0).repeat(3, 1)] * 3, axis=2)
            return gray[::2] if self.form == "reduced" else gray, pixels
        mask = Image.open(path.parents[1] / "masks" / path.name)
        values = np.array(mask)
        forms = {
            "pil": mask,
            "palette": Image.fromarray(values, mode="P"),
            "array": values,
            "tensor": torch.from_numpy(values.astype(np.int64)),
            "tv_tensor": torch.from_numpy(values)[None],
            "shifted": values + 1,
            "small": values[::2],
            "large": values + np.uint8(7),
            "negative": values.astype(np.int64) - 1,
            "float": values / 255,
            "none": None,
        }
        return image, forms[self.form]


class Ears(Folder):
    classes = POINTS

    def __getitem__(self, index: int) -> Any:
        image, _ = Folder.__getitem__(self, index) if self.form in ("pil", "array") else (Image.new("RGB", (40, 30)), 0)
        points = points_at(int(self.paths[index].stem))
        if self.form == "pil":
            return image, [list(point) if known else (np.nan, np.nan) for *point, known in points.tolist()]
        return image, {"array": points, "two": points[:2], "text": "here"}[self.form]


def points_at(index: int) -> np.ndarray:
    """Return x, y and 1 or 0 of the points of an image."""
    return np.array([[10 + index, 12, 1], [5, 20.5, 1], [30, 3 + index, index % 2]])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folder of images and masks of random values, with a table of points."""
    generator = np.random.default_rng(0)
    header = ",".join(f"{name}_x,{name}_y,{name}_visible" for name in POINTS)
    lines = [f"image,split,{header}"]
    for split, count in SPLITS.items():
        for index in range(count):
            size = (50 + index, 64)
            for kind, image in (
                ("images", generator.integers(0, 256, (*size, 3))),
                ("masks", generator.integers(0, 6, size)),
            ):
                path = tmp_path / "set" / split / kind / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image.astype(np.uint8)).save(path)
            values = ",".join(f"{x},{y},{known}" for x, y, known in points_at(index))
            lines.append(f"{split}/images/{index}.png,{split},{values}")
    (tmp_path / "set" / "points.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "set"


def node(kind: type, **arguments: Any) -> dict[str, Any]:
    declared = {"_target_": f"{kind.__module__}.{kind.__qualname__}", **arguments}
    TRUST.add_composed(OmegaConf.create({"data": declared}))
    return declared


def config(**changes: Any) -> DataConfig:
    settings: dict[str, Any] = {"name": "set", "image_size": [40, 52], "eval_view": "fit", "mean": [0.0], "std": [1.0]}
    return DataConfig(**(settings | {"num_workers": 2, "augment": FLIPS} | changes))


def item_data(root: Path, kind: type[Folder] = Folder, form: str = "pil", **changes: Any) -> DataConfig:
    nodes = {split: node(kind, root=str(root), split=split, form=form) for split in SPLITS}
    return config(**{"source": "dataset", "target": "mask", "num_classes": 6, **nodes, **changes})


def opened(data: DataConfig) -> ImageData:
    assert check_data(data) == []
    module = ImageData(data, seed=3, micro_batch_size=4, accumulation=1, eval_batch_size=1)
    module.open()
    return module


def check_equal(ours: DataConfig, theirs: DataConfig) -> None:
    """Check the images and targets of two epochs and of val."""
    for load in (
        lambda module: module.training_loader(0),
        lambda module: module.training_loader(2),
        lambda module: module.evaluation_loader("val"),
    ):
        pairs = [[(batch.images.clone(), batch.targets) for batch in load(opened(data))] for data in (ours, theirs)]
        for (images, targets), (their_images, their_targets) in zip(*pairs, strict=True):
            assert torch.equal(images, their_images)
            assert targets.dtype == their_targets.dtype
            assert torch.equal(targets, their_targets)


@pytest.mark.parametrize("form", ["pil", "palette", "array", "tensor", "tv_tensor"])
def test_masks_are_those_of_a_folder(root: Path, form: str) -> None:
    folder = config(source="segmentation_folder", target="mask", root=str(root), classes=list("012345"))
    data = item_data(root, form=form)
    check_equal(data, folder)
    ours, theirs = opened(data), opened(folder)
    assert torch.equal(ours.class_counts(), theirs.class_counts())
    facts = [inspect_data(one._set, one.data, chosen_samples(one._set, 0, 1), 2) for one in (ours, theirs)]
    counts = [count_targets(found.targets, found.splits["val"].targets) for found in facts]
    assert counts[0] == counts[1] == [3] * 6


def test_classes_of_masks_have_names_and_values(root: Path) -> None:
    classes = {"a": 1, "b": 2, "c": 3, "d": 4}
    folder = config(source="segmentation_folder", target="mask", root=str(root), classes=classes, ignored_values=[0, 5])
    shifted = {name: value + 1 for name, value in classes.items()}
    data = item_data(root, form="shifted", classes=shifted, ignored_values=[1, 6], num_classes=None)
    assert num_targets(data) == 4
    check_equal(data, folder)
    assert opened(data).targets == opened(folder).targets


@pytest.mark.parametrize("form", ["pil", "array"])
def test_points_are_those_of_a_table(root: Path, form: str) -> None:
    columns = {"file": str(root / "points.csv"), "image_column": "image", "split_column": "split"}
    table = config(source="table", target="keypoints", **columns)
    data = item_data(root, Ears, form, target="keypoints", num_classes=3)
    check_equal(data, table)
    assert opened(data).targets == opened(table).targets


def test_pairs_of_images_are_moved_together(root: Path) -> None:
    """Removing the colors commutes with crops and flips, so that the pairs are those of `degradation.gray`."""
    view = {"target": "image", "channels": 1, "image_size": 24, "eval_view": "whole"}
    view["augment"] = AugmentConfig(random_crop=True, flip=True)
    for path in root.glob("*/masks/*"):
        path.unlink()
    folder = config(source="restoration_folder", root=str(root), degradation=DegradationConfig(gray=True), **view)
    data = item_data(root, form="colorization", **(view | {"num_classes": 3}))
    check_equal(data, folder)
    assert opened(data).targets.names == ("red", "green", "blue")


def test_transforms_move_both_images(root: Path) -> None:
    flip = {"_target_": "torchvision.transforms.v2.RandomHorizontalFlip", "p": 1.0}
    view = {"target": "image", "channels": 1, "num_classes": 3, "image_size": 24, "eval_view": "whole"}
    view["augment"] = AugmentConfig(random_crop=True)
    data = item_data(root, form="colorization", transforms=[flip], **view)
    plain = item_data(root, form="colorization", **view)
    for one, other in zip(opened(data).training_loader(0), opened(plain).training_loader(0), strict=True):
        assert torch.equal(one.images, other.images.flip(-1))
        assert torch.equal(one.targets, other.targets.flip(-1))


def test_torchvisions_voc_is_the_folder(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for kind in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / VOC / kind).mkdir(parents=True)
    for split, names in (("train", "abcd"), ("val", "ef")):
        (tmp_path / VOC / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name in names:
            image, mask = generator.integers(0, 256, (40, 50, 3)), generator.integers(0, 4, (40, 50))
            Image.fromarray(image.astype(np.uint8)).save(tmp_path / VOC / "JPEGImages" / f"{name}.jpg")
            values = Image.fromarray(np.where(mask == 3, 255, mask).astype(np.uint8), mode="P")
            values.save(tmp_path / VOC / "SegmentationClass" / f"{name}.png")
    names = {"image_folder": "JPEGImages", "mask_folder": "SegmentationClass", "split_files": "ImageSets/Segmentation"}
    folder = config(source="segmentation_folder", target="mask", root=str(tmp_path / VOC), classes=list("abc"), **names)
    nodes = {split: node(VOCSegmentation, root=str(tmp_path), image_set=split) for split in ("train", "val")}
    check_equal(config(source="dataset", target="mask", classes=list("abc"), **nodes), folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"form": "small"},
            r"data\.train: the mask of Folder\[\d\] has 64x2\d.*and its image Folder\[\d\] 64x5",
        ),
        ({"form": "large"}, r"the mask of Folder\[\d\] has the value \d+, which is no class; the data has 6 classes"),
        ({"form": "pil", "num_classes": 3}, "has the value 5, which is no class; the data has 3 classes"),
        ({"form": "negative"}, "has the value -1; masks have values from 0 to 255, and pixels of 255 are not counted"),
        ({"form": "float"}, r"Folder\[\d\] returns a target that is ndarray of float64 \[5\d, 64\]; return a PIL"),
        ({"form": "none"}, "returns a target that is NoneType; return a PIL image, or a tensor"),
        ({"kind": Ears, "form": "array", "target": "keypoints", "num_classes": 4}, "has 3 names"),
        (
            {"kind": Ears, "form": "two", "target": "keypoints", "num_classes": 3},
            r"Ears\[\d\] returns a target that is ndarray of float64 \[2, 3\]; return x and y of each point, \[3, 2\]",
        ),
        (
            {"kind": Ears, "form": "text", "target": "keypoints", "num_classes": 3},
            r"returns a target that is str; return x and y of each point",
        ),
    ],
)
def test_faults_of_targets_name_the_item(root: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(opened(item_data(root, **changes)).training_loader(0))


@pytest.mark.parametrize("augment", [{"random_crop": True, "flip": True}, {}])
def test_pairs_of_two_sizes_show_the_same_part(root: Path, augment: dict[str, Any]) -> None:
    """Each pixel of the input is a square of `scale` pixels of the target, wherever the crop is."""
    view = {"target": "image", "channels": 1, "num_classes": 3, "image_size": 24, "eval_view": "whole"}
    scale = DegradationConfig(scale=3)
    data = opened(item_data(root, form="enlarged", augment=AugmentConfig(**augment), degradation=scale, **view))
    for batches, count in ((data.training_loader(0), None), (data.evaluation_loader("val"), 1)):
        sizes = set()
        for images, targets in batches:
            assert count in (None, len(images))
            assert targets.shape == (len(images), 3, *(3 * side for side in images.shape[2:]))
            if augment or count:  # without a crop, whole images are resized, each in its own size
                squares = images.repeat_interleave(3, 2).repeat_interleave(3, 3).expand_as(targets)
                assert torch.allclose(targets, squares, atol=1e-6)
            sizes.add(tuple(images.shape[2:]))
        assert sizes == {(24, 24)} if count is None else len(sizes) > 1


def test_pairs_of_two_sizes_are_refused(root: Path) -> None:
    view = {"target": "image", "channels": 1, "num_classes": 3, "image_size": 16, "eval_view": "whole"}
    data = item_data(root, form="reduced", augment=AugmentConfig(), **view)
    sizes = r"Folder\[\d\] returns images of 64x2\d and 64x5\d \(width x height\), with data\.degradation.scale"
    with pytest.raises(
        UserError, match=rf"{sizes}=1; return an image and one that is a whole number of times as large"
    ):
        list(opened(data).training_loader(0))
    enlarged = item_data(root, form="enlarged", augment=AugmentConfig(), degradation=DegradationConfig(scale=2), **view)
    with pytest.raises(UserError, match=r"with data\.degradation\.scale=2; write data\.degradation\.scale=3$"):
        list(opened(enlarged).training_loader(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eval_view": "crop"}, "data.eval_view=crop: would leave out a part of the targets of the kind mask"),
        ({"num_classes": None}, "data.num_classes=null: can't be counted before the data set is built"),
        ({"classes": ["a", "b"]}, "data.num_classes=6: data.classes has 2 classes; write data.num_classes=null"),
        ({"ignored_values": [300]}, "data.ignored_values=[300]: must be values of masks, 0 to 255"),
        ({"target": "image", "num_classes": 3}, "data.eval_view=fit: would resize the images that the network should"),
        ({"target": "image", "eval_view": "whole"}, "data.num_classes=6: is the number of channels of the restored"),
        ({"mask_folder": "x"}, "data.mask_folder=x: requires data.source=segmentation_folder"),
        (
            {"target": "image", "degradation": DegradationConfig(noise=25.0, jpeg=20)},
            "data.degradation.jpeg=20: is a step of data=restoration; a data set returns the network's input itself; "
            "write data.degradation.jpeg=null",
        ),
        ({"degradation": DegradationConfig(scale=2)}, "data.degradation.scale=2: is for images as targets, and"),
        ({"target": "image", "degradation": DegradationConfig(scale=0)}, "data.degradation.scale=0: must be 1 to 16"),
    ],
)
def test_faults_of_settings(root: Path, changes: dict[str, Any], message: str) -> None:
    faults = [str(fault) for fault in check_data(item_data(root, **changes))]
    assert any(message in fault for fault in faults), faults


OPTION = """
defaults:
  - dataset
  - override /task@_global_.task: segmentation
  - _self_
name: pets
train: {_target_: pets.Pets, count: 8}
test: {_target_: pets.Pets, count: 2}
classes: {pet: 1, background: 2, border: 3}
image_size: [24, 32]
eval_resize: null
eval_view: fit
"""
CODE = """
import numpy as np
from PIL import Image


class Pets:
    classes = [str(breed) for breed in range(37)]

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        trimap = np.full((30, 40), 2, dtype=np.uint8)
        trimap[5:25, index : index + 20] = 1
        return Image.fromarray(trimap * 100), Image.fromarray(trimap)
"""


def test_a_run_of_the_documented_option(tmp_path: Path, convoy: Callable[..., Run], monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "pets.yaml").write_text(OPTION)
    (tmp_path / "pets.py").write_text(CODE)
    network = ("model=unet", "model.width=4", "model.depth=1")
    words = ("--config-dir", "conf", "data=pets", *network, "trainer=quick", "trainer.gpus=0", "logger=csv")
    done = convoy("train", *words, "trainer.global_batch_size=2", "loss.weight=balanced", "trainer.max_epochs=1")
    assert done.code == 0, done.err
    evaluated = convoy("evaluate", "--config-dir", "conf", "run=latest")
    assert evaluated.code == 0, evaluated.err
    looked = convoy("data", "--config-dir", "conf", "data=pets", "output=examples.png", folder=None)
    assert looked.code == 0, looked.err
    assert Path("examples.png").is_file()
