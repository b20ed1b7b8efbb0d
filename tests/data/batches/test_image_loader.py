"""Tests of batches of image folders: contents, bad images, and the lifetime of threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.data.batches.collate import Batch, BatchSpec
from convoy.data.opening.open_data import open_data
from convoy.data.opening.opened_data import OpenedData
from convoy.data.sampling.samplers import EvaluationSampler, TrainingSampler

CPU = torch.device("cpu")
DELIVERY = BatchSpec(CPU, num_threads=2)
MakeData = Callable[..., DataConfig]
ALL_AUGMENTATION = AugmentConfig(random_resized_crop=[0.3, 1.0], flip=True, cutout=5)


def decoding_threads() -> int:
    return sum(thread.name.startswith("convoy-decode") for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def no_thread_is_left() -> object:
    yield
    assert decoding_threads() == 0


def train_batches(opened: OpenedData, first: int = 0, end: int = 6, num_threads: int = 2) -> list[Batch]:
    plan = TrainingSampler(opened.sizes["train"], 5, 10)
    return list(opened.train.batches(plan, 0, first, end, BatchSpec(CPU, num_threads=num_threads)))


def same(ours: list[Batch], others: list[Batch]) -> bool:
    return len(ours) == len(others) and all(
        torch.equal(one[part], other[part]) for one, other in zip(ours, others, strict=True) for part in (0, 1)
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_evaluation_is_torchvisions(digits_folder: Path, folder_data: MakeData, channels: int) -> None:
    data = folder_data(digits_folder, eval_resize=28, channels=channels, mean=[0.5], std=[0.25])
    opened = open_data(data, 1)
    plan = EvaluationSampler(opened.sizes["val"], 7)
    images, labels = (
        torch.cat(parts) for parts in zip(*opened.evaluation["val"].batches(plan, 0, DELIVERY), strict=True)
    )
    paths = sorted((digits_folder / "val").rglob("*.jpg"))
    assert [opened.targets.names[label] for label in labels] == [path.parent.name for path in paths]
    transform = v2.Compose(
        [
            v2.Resize(28),
            v2.CenterCrop(24),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(data.mean * channels, data.std * channels),
        ]
    )
    for image, path in zip(images, paths, strict=True):
        expected = transform(Image.open(path).convert("RGB" if channels == 3 else "L"))
        # One level of 255, over the standard deviation: torch and Pillow round the filter's sums at different places.
        torch.testing.assert_close(image, expected, rtol=0, atol=1 / 255 / 0.25 + 2e-6)
        assert float((image - expected).abs().mean()) <= 0.1 / 255 / 0.25


BATCH_OPERATIONS = AugmentConfig(
    scale_jitter=[26, 40], flip=True, rand_augment=[2, 9], color_jitter=[0.4, 0.4, 0.4, 0.1], erasing=0.5
)


@pytest.mark.parametrize(
    "augment", [ALL_AUGMENTATION, BATCH_OPERATIONS, AugmentConfig(pad_crop=3, flip=True, augmix=3), AugmentConfig()]
)
def test_training_does_not_depend_on_threads_or_the_first_step(
    digits_folder: Path, folder_data: MakeData, augment: AugmentConfig
) -> None:
    data = folder_data(digits_folder, augment=augment)
    whole = train_batches(open_data(data, 5), 0, 15, num_threads=1)
    assert len(whole) == 15
    assert all(images.shape == (10, 3, 24, 24) for images, _ in whole)
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images, _ in whole)
    assert same(train_batches(open_data(data, 5), 0, 15, num_threads=7), whole)
    assert same(train_batches(open_data(data, 5), 8, 15, num_threads=3), whole[8:])
    if augment != AugmentConfig():
        assert not same(train_batches(open_data(data, 6), 0, 15), whole)


def test_pad_crop_and_flip_are_windows_of_the_padded_image(digits_folder: Path, folder_data: MakeData) -> None:
    plain = open_data(folder_data(digits_folder), 5)
    augmented = open_data(folder_data(digits_folder, augment=AugmentConfig(pad_crop=2, flip=True)), 5)
    mean, std = (torch.tensor(values)[:, None, None] for values in ([0.5, 0.4, 0.3], [0.2, 0.3, 0.25]))
    for (images, _), (windows, _) in zip(train_batches(plain), train_batches(augmented), strict=True):
        for image, window in zip(images, windows, strict=True):
            padded = v2.functional.pad(image * std + mean, [2] * 4)
            candidates = [
                (v2.functional.crop(side, top, left, 24, 24) - mean) / std
                for side in (padded, padded.flip(-1))
                for top in range(5)
                for left in range(5)
            ]
            assert min(float((window - candidate).abs().max()) for candidate in candidates) < 1e-5


def damage(folder: Path, *names: str) -> list[str]:
    for name in names:
        path = folder / "train" / name
        path.write_bytes(path.read_bytes()[:-300])
    return [str(folder / "train" / name) for name in names]


def test_bad_image_stops_the_run_and_is_named(digits_folder: Path, folder_data: MakeData) -> None:
    (path,) = damage(digits_folder, "one/003.jpg")
    with pytest.raises(UserError) as caught:
        train_batches(open_data(folder_data(digits_folder), 5))
    (fault,) = caught.value.faults
    assert path in str(fault)
    assert "truncated" in str(fault)
    assert "data.on_bad_image=skip" in fault.remedy


def test_bad_images_are_skipped_and_counted_once(digits_folder: Path, folder_data: MakeData) -> None:
    whole = open_data(folder_data(digits_folder), 5)
    expected = train_batches(whole, 0, 12)
    paths = damage(digits_folder, "one/003.jpg", "two/011.jpg", "two/012.jpg")
    opened = open_data(folder_data(digits_folder, on_bad_image="skip"), 5)
    assert opened.bad_images.reasons == {}
    batches = train_batches(opened, 0, 12)
    assert sorted(opened.bad_images.reasons) == paths
    bad = {whole.train._pictures._files.paths.index(path) for path in paths}  # type: ignore[attr-defined]
    plan = TrainingSampler(60, 5, 10)
    for batch, ours, all_images in zip(plan.micro_batches(0, 0, 12), batches, expected, strict=True):
        kept = [place for place, sample in enumerate(batch.samples.tolist()) if sample not in bad]
        assert torch.equal(ours[0], all_images[0][kept])
        assert torch.equal(ours[1], all_images[1][kept])


def test_a_batch_of_bad_images_only_is_an_error(digits_folder: Path, folder_data: MakeData) -> None:
    for path in (digits_folder / "val").rglob("*.jpg"):
        path.write_bytes(b"")
    opened = open_data(folder_data(digits_folder, on_bad_image="skip"), 5)
    with pytest.raises(UserError, match="none of the 10 images of a batch can be decoded"):
        list(opened.evaluation["val"].batches(EvaluationSampler(30, 10), 0, DELIVERY))


def test_threads_start_with_the_first_batch_and_stop_when_abandoned(digits_folder: Path, folder_data: MakeData) -> None:
    opened = open_data(folder_data(digits_folder), 5)
    plan = TrainingSampler(60, 5, 10)
    batches = opened.train.batches(plan, 0, 0, 600, DELIVERY)
    assert decoding_threads() == 0
    next(batches)
    assert decoding_threads() == 2
    del batches
    assert decoding_threads() == 0


def test_threads_stop_when_the_loop_fails_or_the_loader_does(digits_folder: Path, folder_data: MakeData) -> None:
    opened = open_data(folder_data(digits_folder), 5)
    plan = TrainingSampler(60, 5, 10)

    def loop() -> None:
        for _ in opened.train.batches(plan, 0, 0, 600, DELIVERY):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop()
    damage(digits_folder, *(f"{name}/003.jpg" for name in ("zero", "one", "two")))
    with pytest.raises(UserError) as caught:
        train_batches(opened)
    # While the error, and with it each frame that it went through, is still held.
    assert decoding_threads() == 0
    del caught


def test_results_are_in_order_and_buffers_are_not_overwritten(digits_folder: Path, folder_data: MakeData) -> None:
    opened = open_data(folder_data(digits_folder), 5)
    plan = TrainingSampler(60, 5, 6)
    kept, copied = [], []
    for images, labels in opened.train.batches(plan, 0, 0, 30, DELIVERY):
        kept.append((images, labels))
        copied.append((images.clone(), labels.clone()))
    assert same(kept, copied)
