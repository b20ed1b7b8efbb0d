"""Images as targets: patches and whole images with the network's input, folders, faults, and the bicubic baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_images
from tests.data.loader_checks import check_resume_and_ranks
from torch import Tensor, nn

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.config.degradation_schema import DegradationConfig
from convoy.config.faults import UserError
from convoy.data.batches.collate import Batch
from convoy.data.check import check_data, num_targets
from convoy.data.data_module import ImageData
from convoy.data.degradation.bicubic import enlarge_bicubic, shrink_bicubic
from convoy.data.degradation.degrade import degraded, luma
from convoy.data.degradation.restoration_folders import restoration_folders
from convoy.data.images.decoded_cache import DecodedCache
from convoy.data.images.pixel_format import PixelFormat
from convoy.data.reading.file_images import FileImages
from convoy.tasks.construction import build_task
from convoy.training.preflight import read

PHOTOS = load_sample_images().images
MakeData = Callable[..., DataConfig]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder of 12 training, 2 val and 2 test images of different sizes, at different depths."""
    for split, count in (("train", 12), ("val", 2), ("test", 2)):
        for index in range(count):
            path = tmp_path / "set" / split / f"part{index % 2}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(PHOTOS[index % 2][9 * index : 9 * index + 61 + index, 50 : 50 + 71 - index]).save(path)
    return tmp_path / "set"


@pytest.fixture
def data_of() -> MakeData:
    def make(root: Path, **changes: Any) -> DataConfig:
        settings: dict[str, Any] = {
            "name": "super_resolution",
            "source": "restoration_folder",
            "target": "image",
            "root": str(root),
            "image_size": 12,
            "eval_view": "whole",
            "mean": [0.0],
            "std": [1.0],
            "num_workers": 2,
            "degradation": DegradationConfig(scale=3),
            "augment": AugmentConfig(random_crop=True, flip=True),
        }
        return DataConfig(**(settings | changes))

    return make


def module_of(data: DataConfig, seed: int = 3) -> ImageData:
    module = ImageData(data, seed=seed, micro_batch_size=4, accumulation=1, eval_batch_size=2)
    module.open()
    return module


def training(data: DataConfig, seed: int = 3) -> list[Batch]:
    return [Batch(batch.images.clone(), batch.targets.clone()) for batch in module_of(data, seed).training_loader(0)]


def as_pixels(image: Tensor) -> NDArray[np.uint8]:
    return (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    "degradation",
    [
        DegradationConfig(scale=3),
        DegradationConfig(scale=2, enlarge=True),
        DegradationConfig(blur=1.0, jpeg=30),
        DegradationConfig(scale=4, blur=0.8, jpeg=70),
    ],
    ids=["reduced", "enlarged", "same size", "chain"],
)
def test_the_input_is_computed_from_the_patch_that_is_the_target(
    folder: Path, data_of: MakeData, degradation: DegradationConfig
) -> None:
    batches = training(data_of(folder, degradation=degradation))
    side = 12 * degradation.output_scale
    patches = set()
    for images, targets in batches:
        assert images.shape == (4, 3, 12, 12)
        assert targets.shape == (4, 3, side, side)
        assert targets.dtype == torch.float32
        for image, target in zip(images, targets, strict=True):
            np.testing.assert_array_equal(as_pixels(image), degraded(as_pixels(target), degradation, 0))
            patches.add(as_pixels(target).tobytes())
    assert len(patches) == 12


def test_targets_are_parts_of_the_images_and_some_are_mirrored(folder: Path, data_of: MakeData) -> None:
    sources = [np.asarray(Image.open(path)) for path in sorted(folder.rglob("train/*/*.png"))]
    found = {False: 0, True: 0}
    for _, targets in training(data_of(folder, patches_per_image=4)):
        for target in targets:
            patch = as_pixels(target)
            for is_mirrored in found:
                wanted = patch[:, ::-1] if is_mirrored else patch
                windows = (np.lib.stride_tricks.sliding_window_view(one, (36, 36, 3)) for one in sources)
                found[is_mirrored] += any((one == wanted).all((-1, -2, -3)).any() for one in windows)
    assert sum(found.values()) == 48
    assert min(found.values()) > 8


def test_an_epoch_has_several_patches_of_each_image(folder: Path, data_of: MakeData) -> None:
    module = module_of(data_of(folder, patches_per_image=5))
    assert module.sizes == {"train": 60, "val": 2, "test": 2}
    targets = torch.cat([batch.targets for batch in training(data_of(folder, patches_per_image=5))])
    assert len({one.numpy().tobytes() for one in targets}) == 60


@pytest.mark.parametrize("enlarge", [False, True])
def test_evaluation_shows_whole_images_without_what_the_scale_does_not_divide(
    folder: Path, data_of: MakeData, enlarge: bool
) -> None:
    degradation = DegradationConfig(scale=3, enlarge=enlarge)
    batches = list(module_of(data_of(folder, degradation=degradation)).evaluation_loader("test"))
    paths = sorted(folder.rglob("test/*/*.png"))
    assert len(batches) == len(paths) == 2
    for (images, targets), path in zip(batches, paths, strict=True):
        pixels = np.asarray(Image.open(path))
        height, width = (side // 3 * 3 for side in pixels.shape[:2])
        pixels = pixels[:height, :width]
        np.testing.assert_array_equal(as_pixels(targets[0]), pixels)
        small = shrink_bicubic(pixels, 3)
        np.testing.assert_array_equal(as_pixels(images[0]), enlarge_bicubic(small, 3) if enlarge else small)


def test_noise_is_new_in_each_epoch_and_the_same_in_each_evaluation(folder: Path, data_of: MakeData) -> None:
    data = data_of(folder, degradation=DegradationConfig(noise=25.0), augment=AugmentConfig(random_crop=True))
    first, again = training(data), training(data)
    assert all(torch.equal(one.images, other.images) for one, other in zip(first, again, strict=True))
    noise = torch.cat([batch.images - batch.targets for batch in first])
    assert 15 < noise.std() * 255 < 26  # clipped to 0..255
    assert len({one.numpy().tobytes() for one in noise}) == 12
    module = module_of(data)
    evaluations = [[batch.images.clone() for batch in module.evaluation_loader("val")] for _ in range(2)]
    assert all(torch.equal(*pair) for pair in zip(*evaluations, strict=True))
    other_seed = [batch.images.clone() for batch in module_of(data, seed=4).evaluation_loader("val")]
    assert all(torch.equal(*pair) for pair in zip(evaluations[0], other_seed, strict=True))


def test_colorization_has_gray_images_and_color_targets(folder: Path, data_of: MakeData) -> None:
    data = data_of(folder, channels=1, degradation=DegradationConfig(gray=True))
    assert num_targets(data) == 3
    assert module_of(data).targets.names == ("red", "green", "blue")
    for images, targets in training(data):
        assert images.shape == (4, 1, 12, 12)
        np.testing.assert_array_equal(as_pixels(images[0]), luma(as_pixels(targets[0])))
    gray = module_of(data_of(folder, channels=1))
    assert gray.targets.names == ("gray",)


def test_transforms_are_applied_before_the_degradation(folder: Path, data_of: MakeData) -> None:
    transform = {"_target_": "torchvision.transforms.v2.RandomVerticalFlip", "p": 1.0}
    plain = training(data_of(folder))
    for one, other in zip(plain, training(data_of(folder, transforms=[transform])), strict=True):
        assert torch.equal(other.targets, one.targets.flip(2))
        np.testing.assert_array_equal(as_pixels(other.images[0]), shrink_bicubic(as_pixels(other.targets[0]), 3))


def test_a_folder_resumes_and_is_divided_among_ranks(folder: Path, data_of: MakeData) -> None:
    check_resume_and_ranks(data_of(folder, degradation=DegradationConfig(noise=10.0)))


def test_images_stay_in_memory_up_to_a_limit(folder: Path) -> None:
    data = DataConfig(name="x", source="restoration_folder", root=str(folder), image_size=12)
    files = restoration_folders(data)[1]["train"]
    first = np.asarray(Image.open(files.paths[0]))
    images = FileImages(files, None, PixelFormat(3), cache=DecodedCache(most_bytes=first.nbytes))
    kept = [images._open(0), images._open(0)]
    assert kept[0] is kept[1]
    np.testing.assert_array_equal(kept[0].pixels(first.shape[0], 1), first)
    others = [images._open(1), images._open(1)]
    assert others[0] is not others[1]
    np.testing.assert_array_equal(others[0].pixels(99, 1), np.asarray(Image.open(files.paths[1])))


def test_val_is_held_out_of_a_folder_without_splits(folder: Path, data_of: MakeData) -> None:
    module = module_of(data_of(folder / "train", val_fraction=0.25))
    assert module.sizes == {"train": 9, "val": 3, "test": 0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"degradation": DegradationConfig()}, "data.degradation: leaves the images as they are"),
        ({"degradation": DegradationConfig(scale=0)}, "data.degradation.scale=0: must be 1 to 16"),
        ({"degradation": DegradationConfig(noise=-1.0)}, "data.degradation.noise=-1.0: must be 0 to 255"),
        ({"degradation": DegradationConfig(jpeg=100)}, "data.degradation.jpeg=100: is a quality from 1 to 95"),
        (
            {"degradation": DegradationConfig(gray=True)},
            "data.degradation.gray=true: is for networks that receive gray",
        ),
        (
            {"image_size": 16, "degradation": DegradationConfig(scale=3, enlarge=True)},
            "data.image_size=16: must be a multiple of data.degradation.scale=3, since images are reduced by it; "
            "write data.image_size=18",
        ),
        ({"channels": 4}, "data.channels=4: must be 1 (gray) or 3 (RGB)"),
        ({"eval_view": "fit"}, "data.eval_view=fit: would resize the images that the network should return"),
        ({"patches_per_image": 0}, "data.patches_per_image=0: must be at least 1"),
        ({"num_classes": 10}, "data.num_classes=10: is the number of channels of the restored images, 3"),
        ({"root": None}, "data.root=null: is missing"),
        ({"root": "nowhere"}, "data.root=nowhere: does not exist"),
        ({"augment": AugmentConfig(rotation=10.0)}, "data.augment.rotation=10.0: changes the network's input only"),
        ({"augment": AugmentConfig(pad_crop=4)}, "data.augment.pad_crop=4: changes the network's input only"),
        ({"source": "image_folder"}, "data.source=image_folder has one class per image"),
    ],
)
def test_wrong_settings_are_reported(folder: Path, data_of: MakeData, changes: dict[str, Any], message: str) -> None:
    faults = [str(fault) for fault in check_data(replace(data_of(folder), **changes))]
    assert any(message in fault for fault in faults), faults
    assert check_data(data_of(folder)) == []


def test_a_folder_without_images_or_train_is_refused(data_of: MakeData, tmp_path: Path) -> None:
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match=r"train has no images"):
        module_of(data_of(tmp_path / "empty"))
    (tmp_path / "half" / "val").mkdir(parents=True)
    with pytest.raises(UserError, match=r"has val but no train"):
        module_of(data_of(tmp_path / "half"))


@pytest.mark.parametrize(("scale", "published"), [(2, 33.66), (3, 30.39), (4, 28.42)])
def test_bicubic_enlargement_has_the_published_psnr_on_set5(
    real_data: Callable[..., Path], data_of: MakeData, scale: int, published: float
) -> None:
    """Dong et al. 2015 (SRCNN), table 2. There, the reduced image was not rounded."""
    root = real_data("super_resolution")
    data = data_of(root, channels=1, image_size=48, degradation=DegradationConfig(scale=scale, enlarge=True))
    module = module_of(replace(data, augment=AugmentConfig()))
    words = ["task=image_to_image", "logger=csv", "data=super_resolution", f"data.root={root}", "data.channels=1"]
    words += [f"data.degradation.scale={scale}", "data.degradation.enlarge=true", "model=srcnn"]
    config = read(words)
    task = build_task(config, module.targets)
    metrics = task.metrics("test")
    for batch in module.evaluation_loader("test"):
        task.update(metrics, nn.Identity(), batch)
    psnr = task.compute(metrics)["psnr"]
    assert psnr == pytest.approx(published, abs=0.03)
    if scale == 3:
        assert psnr == pytest.approx(30.385, abs=0.01)
