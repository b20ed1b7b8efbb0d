"""Tests of masks: they move with the pixels of their image, and faults of files are named."""

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
from tests.data.located.conftest import CELL, HEIGHT, WIDTH, class_at
from torch import Tensor

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.config.trust import TRUST
from convoy.data.batches.collate import Batch, BatchSpec
from convoy.data.check import check_data
from convoy.data.data_module import ImageData
from convoy.data.images.preparation import Preparation, prepare_files
from convoy.data.inspection.examples import example_rows
from convoy.data.inspection.inspect_data import chosen_samples, inspect_data
from convoy.data.inspection.target_counts import count_targets
from convoy.data.opening.open_data import open_data
from convoy.data.sampling.samplers import TrainingSampler
from convoy.data.targets import IGNORED

MakeData = Callable[..., DataConfig]
CPU = torch.device("cpu")


def training_batches(data: DataConfig, num_threads: int = 2, first: int = 0) -> list[Batch]:
    opened = open_data(data, seed=3)
    sampler = TrainingSampler(opened.sizes["train"], 3, 4)
    return list(opened.train.batches(sampler, 0, first, 6, BatchSpec(CPU, num_threads=num_threads)))


def positions(image: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x and y in the source of each pixel of an image, and whether it comes from its inside."""
    red, green, blue = (image * 255).numpy()
    return red / 2, green / 2, blue > 254


def check_agreement(image: Tensor, mask: Tensor, least_share: float) -> None:
    """Check the mask at pixels that are not close to the edge of a class, and outside of the image."""
    x, y, is_inside = positions(image)
    # Bilinear positions are exact; the nearest pixel is at most one pixel of the source away at these scales.
    margin = 2.0
    is_clear = is_inside.copy()
    for along in (x, y):
        within = along % CELL
        is_clear &= (within > margin) & (within < CELL - margin)
    found = mask.numpy()
    assert is_clear.mean() >= least_share
    np.testing.assert_array_equal(found[is_clear], class_at(x, y)[is_clear])
    is_outside = (image.numpy() * 255 < 0.5).all(axis=0)
    assert (found[is_outside] == IGNORED).all()


@pytest.mark.parametrize(
    "augment",
    [
        AugmentConfig(),
        AugmentConfig(flip=True),
        AugmentConfig(random_crop=True, flip=True),
        AugmentConfig(scale_jitter=[60, 90], flip=True),
        AugmentConfig(random_resized_crop=[0.4, 1.0]),
        AugmentConfig(random_crop=True, rotation=30),
        AugmentConfig(affine=[20, 0.1, 0.2, 10], flip=True),
        AugmentConfig(perspective=0.4),
        AugmentConfig(rotation=45, affine=[10, 0.2, 0.1, 5], perspective=0.3, flip=True, scale_jitter=[60, 80]),
    ],
    ids=["none", "flip", "crop", "jitter", "resized", "rotation", "affine", "perspective", "chain"],
)
def test_a_mask_moves_with_its_image(folder: Path, mask_data: MakeData, augment: AugmentConfig) -> None:
    batches = training_batches(mask_data(folder, augment))
    assert len(batches) == 6
    for images, masks in batches:
        assert masks.dtype == torch.int64
        assert masks.shape == (4, 60, 80)
        for image, mask in zip(images, masks, strict=True):
            check_agreement(image, mask, 0.1)


def test_transforms_of_torchvision_move_both(folder: Path, mask_data: MakeData) -> None:
    transforms = [
        {"_target_": "torchvision.transforms.v2.RandomHorizontalFlip", "p": 0.5},
        {"_target_": "torchvision.transforms.v2.RandomRotation", "degrees": 30, "interpolation": 2},
    ]
    data = mask_data(folder, AugmentConfig(random_crop=True), transforms=transforms)
    for images, masks in training_batches(data):
        for image, mask in zip(images, masks, strict=True):
            check_agreement(image, mask, 0.1)


def test_functions_that_move_pixels_only_are_refused(folder: Path, mask_data: MakeData) -> None:
    node = {"_target_": "torchvision.transforms.RandomHorizontalFlip"}
    TRUST.add_composed(OmegaConf.create({"data": {"transforms": [node]}}))
    data = mask_data(folder, transforms=[node])
    with pytest.raises(UserError, match=r"data\.transforms\[0\].*moves pixels only"):
        training_batches(data)


def test_masks_depend_on_neither_threads_nor_start(folder: Path, mask_data: MakeData) -> None:
    data = mask_data(folder, AugmentConfig(random_crop=True, flip=True, rotation=20))
    once, again, rest = training_batches(data), training_batches(data, 1), training_batches(data, 2, first=4)
    for one, other in (*zip(once, again, strict=True), *zip(once[4:], rest, strict=True)):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.targets, other.targets)


def test_evaluation_fits_the_whole_image(folder: Path, mask_data: MakeData) -> None:
    module = image_data(mask_data(folder, image_size=[80, 80]))
    images, masks = next(iter(module.evaluation_loader("test")))
    assert images.shape == (3, 3, 80, 80)
    # 120x90 becomes 80x60; the rest is empty.
    assert (masks[:, 60:] == IGNORED).all()
    assert (masks[:, :60] != IGNORED).all()
    check_agreement(images[0], masks[0], 0.1)


def test_whole_images_have_their_own_size(folder: Path, mask_data: MakeData) -> None:
    Image.new("RGB", (33, 47)).save(folder / "test/images/1.png")
    Image.new("L", (33, 47), 5).save(folder / "test/masks/1.png")
    module = image_data(mask_data(folder, eval_view="whole"))
    batches = list(module.evaluation_loader("test"))
    assert [tuple(images.shape[2:]) for images, _ in batches] == [(HEIGHT, WIDTH), (47, 33), (HEIGHT, WIDTH)]
    assert [tuple(masks.shape) for _, masks in batches] == [(1, HEIGHT, WIDTH), (1, 47, 33), (1, HEIGHT, WIDTH)]
    stored = np.asarray(Image.open(folder / "test/masks/0.png"))
    np.testing.assert_array_equal(batches[0].targets[0].numpy(), stored)
    np.testing.assert_array_equal(
        (batches[0].images[0] * 255).round().byte().permute(1, 2, 0),
        np.asarray(Image.open(folder / "test/images/0.png")),
    )


def image_data(data: DataConfig) -> ImageData:
    module = ImageData(data, seed=1, micro_batch_size=4, accumulation=1, eval_batch_size=4)
    module.open()
    return module


def test_colors_and_palettes_are_classes(folder: Path, mask_data: MakeData) -> None:
    table = folder / "classes.csv"
    table.write_text("name;red;green;blue\nroad;128;64;128\nsky;0;0;255\nVoid;0;0;0\n")
    colors = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    colors[:40], colors[40:60] = (128, 64, 128), (0, 0, 255)
    for path in folder.glob("*/masks/*.png"):
        Image.fromarray(colors).save(path)
    data = mask_data(folder, classes="classes.csv", eval_view="whole")
    module = image_data(data)
    assert module.targets.names == ("road", "sky")
    mask = next(iter(module.evaluation_loader("val"))).targets[0]
    assert [int(mask[row, 7]) for row in (0, 39, 40, 59, 60, 89)] == [0, 0, 1, 1, IGNORED, IGNORED]

    palette = Image.fromarray((colors[..., 2] == 255).astype(np.uint8), mode="P")
    palette.putpalette([10, 20, 30, 200, 100, 50] + [0] * 762)
    for path in folder.glob("*/masks/*.png"):
        palette.save(path)
    module = image_data(mask_data(folder, classes=["rest", "sky"], eval_view="whole"))
    mask = next(iter(module.evaluation_loader("val"))).targets[0]
    assert [int(mask[row, 7]) for row in (0, 40, 60)] == [0, 1, 0]


def test_void_and_ignored_values_do_not_count(folder: Path, mask_data: MakeData) -> None:
    classes = ["a", "void", "c", "d", "e", "f"]
    module = image_data(mask_data(folder, classes=classes, ignored_values=[5], eval_view="whole"))
    assert module.targets.names == ("a", "c", "d", "e", "f")
    stored = np.asarray(Image.open(folder / "val/masks/0.png"))
    expected = np.array([0, IGNORED, 1, 2, 3, IGNORED])[stored]
    np.testing.assert_array_equal(next(iter(module.evaluation_loader("val"))).targets[0], expected)


def spoil(folder: Path, name: str, image: Image.Image, **options: Any) -> None:
    image.save(folder / "train/masks" / name, **options)


@pytest.mark.parametrize(
    ("image", "changes", "expected"),
    [
        (Image.new("L", (WIDTH, HEIGHT), 9), {}, r"3\.png has the value 9, which is no class; the data has 6 classes"),
        (Image.new("L", (40, 30)), {}, r"3\.png has 40x30 pixels, and its image .*3\.png 120x90"),
        (Image.new("RGB", (WIDTH, HEIGHT)), {}, r"3\.png is a color image \(RGB\).*red, green and blue"),
        (Image.new("RGBA", (WIDTH, HEIGHT)), {}, r"3\.png is a color image \(RGBA\)"),
        (Image.new("I;16", (WIDTH, HEIGHT), 700), {}, r"3\.png has the value 700"),
    ],
    ids=["value", "size", "color", "alpha", "deep"],
)
def test_faults_of_masks_name_the_file(
    folder: Path, mask_data: MakeData, image: Image.Image, changes: dict[str, Any], expected: str
) -> None:
    spoil(folder, "3.png", image)
    with pytest.raises(UserError, match=expected):
        training_batches(mask_data(folder, **changes))


def test_a_look_at_the_data_finds_a_mask_of_another_size(folder: Path, convoy: Callable[..., Run]) -> None:
    Image.new("L", (WIDTH + 1, HEIGHT)).save(folder / "val/masks/1.png")
    words = ("data=segmentation_folder", f"data.root={folder}", "data.classes=[a,b,c,d,e,f]")
    done = convoy("data", *words)
    assert done.code == 2
    assert f"1.png has {WIDTH + 1}x{HEIGHT} pixels, and its image" in done.err


def test_masks_of_a_wrong_kind_are_refused_before_a_run_has_a_folder(folder: Path, convoy: Callable[..., Run]) -> None:
    for path in folder.glob("train/masks/*.png"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(path)
    words = ("data=segmentation_folder", f"data.root={folder}", "data.classes=[a,b,c,d,e,f]", "model=unet")
    done = convoy("train", *words, "trainer.global_batch_size=2", "logger=csv")
    assert done.code == 2
    assert "is a color image (RGB)" in done.err
    assert not Path("run").exists()


def test_jpegs_are_no_masks(folder: Path, mask_data: MakeData) -> None:
    pixels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    pixels[:, 60:] = 250
    spoil(folder, "3.jpg", Image.fromarray(pixels), quality=60)
    (folder / "train/masks/3.png").unlink()
    with pytest.raises(UserError, match=r"3\.jpg has the value .*JPEG changes the values of pixels: save masks as PNG"):
        training_batches(mask_data(folder, classes=["a", "b"], ignored_values=[2, 3, 4, 5, 250]))


def test_layouts_without_splits(folder: Path, mask_data: MakeData, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    (folder / "train").rename(flat)
    opened = open_data(mask_data(flat, val_fraction=0.25), 1)
    assert opened.sizes == {"train": 9, "val": 3, "test": 0}
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
        (flat / kind).rename(folder / kind / "train")
    assert open_data(mask_data(folder), 1).sizes == {"train": 12, "val": 2, "test": 3}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"classes": None}, "data.classes=null: is missing; write data.classes=[sky,road,…]"),
        (
            {"classes": 12},
            "data.classes=12: must be names, or the path of a class table; write data.classes=[sky,road,",
        ),
        ({"classes": "nothing.csv"}, "data.classes=nothing.csv: no such file"),
        ({"mask_folder": "labels"}, "has neither train/images/ and train/labels/ nor images/ and labels/; it has"),
        ({"eval_view": "crop"}, "data.eval_view=crop: would leave out a part of the targets of the kind mask"),
        ({"target": "class_index"}, "data.target=class_index: data.source=segmentation_folder has targets of the kind"),
        ({"augment": AugmentConfig(pad_crop=4)}, "data.augment.pad_crop=4: does not move targets of the kind mask"),
    ],
)
def test_faults_of_settings(folder: Path, mask_data: MakeData, changes: dict[str, Any], expected: str) -> None:
    faults = [str(fault) for fault in check_data(mask_data(folder, **changes))]
    assert any(expected in fault for fault in faults), faults


def test_images_without_a_mask_are_named(folder: Path, mask_data: MakeData) -> None:
    (folder / "train/masks/3.png").rename(folder / "train/masks/3_mask.png")
    with pytest.raises(UserError, match=r"3\.png has no mask .*masks/3\.\*; did you mean|data\.mask_suffix=_mask"):
        open_data(mask_data(folder), 1)


def test_pixels_are_counted_by_class(folder: Path, mask_data: MakeData) -> None:
    stored = np.asarray(Image.open(folder / "train/masks/0.png"))
    Image.fromarray(np.zeros_like(stored)).save(folder / "train/masks/0.png")
    counts = image_data(mask_data(folder, ignored_values=[2], classes=["a", "b", "void", "d", "e", "f"])).class_counts()
    expected = 11 * np.bincount(stored.ravel(), minlength=6)
    expected[0] += stored.size
    assert counts[0].tolist() == np.delete(expected, 2).tolist()
    # Pixels that are counted, in the masks with the class.
    others = 11 * int((stored != 2).sum())
    assert counts[1].tolist() == [others + stored.size, *[others] * 4]


@pytest.mark.parametrize("view", ["fit", "whole"])
def test_files_are_prepared_like_val(folder: Path, mask_data: MakeData, view: str) -> None:
    data = mask_data(folder, eval_view=view, image_size=[64, 100])
    paths = sorted(str(path) for path in (folder / "val/images").iterdir())
    found = torch.cat([batch.images for batch in prepare_files(paths, Preparation.of(data), 8, 2)])
    expected = torch.cat([images for images, _ in image_data(data).evaluation_loader("val")])
    assert torch.equal(found, expected)


def test_a_look_at_the_data_counts_and_draws_masks(folder: Path, mask_data: MakeData) -> None:
    for split in ("train", "val", "test"):
        for path in (folder / split / "masks").glob("*.png"):
            values = np.asarray(Image.open(path))
            Image.fromarray(np.where(values == 5, 0 if split == "val" else 5, values).astype(np.uint8)).save(path)
    data = mask_data(folder, AugmentConfig(flip=True))
    opened = open_data(data, 1)
    found = inspect_data(opened, data, chosen_samples(opened, 0, 1), 2)
    assert count_targets(found.targets, found.splits["train"].targets) == [12] * 6
    assert count_targets(found.targets, found.splits["val"].targets) == [2, 2, 2, 2, 2, 0]
    row = example_rows(opened, found, data, 1, all_classes=False)[0]
    before, after = row.examples[0].pictures
    assert before.shape == after.shape == (60, 80, 3)
    # Blue is 255 everywhere, and a class of another color is drawn over it.
    assert (before[:, :, 2] < 255).mean() > 0.3


def test_whole_images_that_ranks_cannot_share_are_refused(folder: Path, mask_data: MakeData) -> None:
    module = image_data(mask_data(folder, eval_view="whole"))
    assert len(list(module.evaluation_loader("val", rank=1, world_size=2))) == 1
    with pytest.raises(UserError, match="3 images can't be divided by the ranks; use one GPU or process"):
        list(module.evaluation_loader("test", rank=0, world_size=2))


@pytest.mark.parametrize("layout", ["split", "flat"])
def test_a_folder_of_masks_is_no_folder_of_classes(folder: Path, convoy: Callable[..., Run], layout: str) -> None:
    root = folder if layout == "split" else folder / "train"
    done = convoy("train", f"data={root}", "model=unet")
    assert done.code == 2
    remedy = f"for images with masks write data=segmentation_folder data.root={root}"
    assert f"has the folders images and masks, which are no classes; {remedy}" in done.err


def test_a_classifier_is_answered_with_a_network_for_masks(folder: Path, convoy: Callable[..., Run]) -> None:
    words = ("data=segmentation_folder", f"data.root={folder}", "data.classes=[a,b,c,d,e,f]", "data.image_size=32")
    done = convoy("train", *words, "logger=csv", "trainer.global_batch_size=4")
    assert done.code == 2
    assert "the task expects (1, 6, 32, 32), logits of each pixel, as model=unet returns" in done.err
