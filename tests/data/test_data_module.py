"""Tests of ImageData: resumed and distributed runs see the samples of one uninterrupted process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.data.batches.collate import Batch
from convoy.data.data_module import Batches, ImageData, num_decoding_threads

MakeData = Callable[..., DataConfig]
AUGMENT = AugmentConfig(pad_crop=2, flip=True, cutout=6)


def digits(**changes: Any) -> DataConfig:
    settings = {"name": "digits", "source": "digits", "channels": 1, "image_size": 32, "mean": [0.3057]}
    return DataConfig(**(settings | {"std": [0.3237], "augment": AUGMENT} | changes))


def opened(data: DataConfig | None = None, **changes: Any) -> ImageData:
    settings = {"seed": 3, "micro_batch_size": 64, "accumulation": 1, "eval_batch_size": 100}
    module = ImageData(data or digits(), **(settings | changes))
    module.open()
    return module


def by_content(batches: list[tuple[Tensor, Tensor]]) -> list[tuple[int, bytes]]:
    """Return labels and pixels in an order that is independent of batches and ranks."""
    return sorted(
        (int(label), image.contiguous().numpy().tobytes())
        for images, labels in batches
        for image, label in zip(images, labels, strict=True)
    )


def test_open_reads_the_data_once() -> None:
    module = opened()
    first = module._opened
    module.open()
    module.setup("fit")
    assert module._opened is first
    assert module.num_classes == 10
    assert module.classes == tuple("0123456789")
    assert module.sizes == {"train": 1294, "val": 144, "test": 359}
    assert module.skipped_images == {}
    labels = torch.cat([batch.targets for batch in module.evaluation_loader("train", device="cpu")]).tolist()
    assert module.counts_by_name() == {str(label): labels.count(label) for label in range(10)}
    assert module.steps_per_epoch(1) == 1294 // 64
    assert module.steps_per_epoch(4) == 1294 // 256


def test_batches_are_normalized_images_and_labels() -> None:
    module = opened(digits(channels=3))
    images, labels = next(iter(module.training_loader(0)))
    assert images.shape == (64, 3, 32, 32)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.shape == (64,)
    assert labels.dtype == torch.int64
    plain = opened(digits(channels=3), channels_last=False)
    other, _ = next(iter(plain.training_loader(0)))
    assert other.is_contiguous()
    assert torch.equal(other, images)
    pixels = torch.cat([batch for batch, _ in module.evaluation_loader("test")])
    assert abs(float(pixels.mean())) < 0.05
    assert abs(float(pixels.std()) - 1) < 0.05


@pytest.mark.parametrize("accumulation", [1, 2])
def test_resumed_run_is_bit_equal(accumulation: int) -> None:
    module = opened(accumulation=accumulation)
    steps = module.steps_per_epoch(1)
    for epoch in range(2):
        whole = list(module.training_loader(epoch * steps))
        assert len(whole) == steps * accumulation
        for first in (1, 4, steps - 1):
            fresh = opened(accumulation=accumulation)
            loader = fresh.training_loader(epoch * steps + first)
            rest = list(loader)
            assert len(rest) == len(loader) == (steps - first) * accumulation
            for ours, uninterrupted in zip(rest, whole[first * accumulation :], strict=True):
                assert torch.equal(ours[0], uninterrupted[0])
                assert torch.equal(ours[1], uninterrupted[1])


OPERATIONS = AugmentConfig(pad_crop=2, trivial_augment=True, rotation=10, blur=0.5, erasing=0.5)


@pytest.mark.parametrize("augment", [AUGMENT, OPERATIONS])
@pytest.mark.parametrize("world_size", [2, 4])
def test_any_world_size_reads_the_same_augmented_samples(world_size: int, augment: AugmentConfig) -> None:
    alone = opened(digits(augment=augment), micro_batch_size=64)
    shared = opened(digits(augment=augment), micro_batch_size=64 // world_size)
    ranks = [list(shared.training_loader(20, rank=rank, world_size=world_size)) for rank in range(world_size)]
    for step, batch in enumerate(alone.training_loader(20)):
        assert by_content([rank[step] for rank in ranks]) == by_content([batch])


def test_any_world_size_reads_the_same_images_of_a_folder(digits_folder: Path, folder_data: MakeData) -> None:
    augment = AugmentConfig(random_resized_crop=[0.2, 1.0], flip=True, cutout=4)
    data = folder_data(digits_folder, augment=augment)
    alone, shared = opened(data, micro_batch_size=12), opened(data, micro_batch_size=3, accumulation=2)
    ranks = [list(shared.training_loader(2, rank=rank, world_size=2)) for rank in range(2)]
    steps = list(alone.training_loader(2))
    assert len(steps) == 3
    for step, batch in enumerate(steps):
        assert by_content([one for rank in ranks for one in rank[2 * step : 2 * step + 2]]) == by_content([batch])


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_has_each_image_once_over_all_ranks(world_size: int) -> None:
    module = opened(eval_batch_size=32)
    loaders = [module.evaluation_loader("test", rank=r, world_size=world_size) for r in range(world_size)]
    batches = [list(loader) for loader in loaders]
    assert {len(rank) for rank in batches} == {len(loaders[0])}
    alone = list(opened().evaluation_loader("test"))
    assert by_content([batch for rank in batches for batch in rank]) == by_content(alone)
    assert len(by_content(alone)) == 359


def test_train_can_be_evaluated_without_augmentation() -> None:
    augmented, plain = opened(), opened(digits(augment=AugmentConfig()))
    batches = list(augmented.evaluation_loader("train"))
    assert by_content(batches) == by_content(list(plain.evaluation_loader("train")))
    assert len(by_content(batches)) == 1294


def test_max_steps_ends_the_last_epoch_early() -> None:
    module = opened(max_steps=25)
    assert [len(module.training_loader(first)) for first in (0, 19, 20, 24, 25, 30)] == [20, 1, 5, 1, 0, 0]
    assert len(list(module.training_loader(20))) == 5
    assert list(module.training_loader(25)) == []


def test_loader_is_lazy_and_can_be_started_twice(digits_folder: Path, folder_data: MakeData) -> None:
    module = opened(folder_data(digits_folder), micro_batch_size=10)
    for path in (digits_folder / "train").rglob("*.jpg"):
        path.unlink()
    loader = module.training_loader(0)
    iterators = [iter(loader), iter(loader)]
    with pytest.raises(UserError):
        next(iterators[1])


def test_no_test_split(digits_folder: Path, folder_data: MakeData) -> None:
    module = opened(folder_data(digits_folder), micro_batch_size=10)
    assert module.sizes["test"] == 0
    with pytest.raises(UserError, match="has no test split; add a folder test/"):
        module.test_dataloader()


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert [num_decoding_threads(None, processes) for processes in (1, 4, 20)] == [16, 4, 1]
    assert num_decoding_threads(3, 4) == 3
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    assert num_decoding_threads(None, 4) == 8


class Recorder(pl.LightningModule):
    """Module that learns nothing and stores its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, int, Tensor]] = []
        self.evaluated: list[Tensor] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.seen.append((self.current_epoch, self.global_step, batch[0].clone()))
        return self.weight * batch[0].mean()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.evaluated.append(batch[1])

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, **changes: Any) -> pl.Trainer:
    settings = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings |= {"reload_dataloaders_every_n_epochs": 1, "num_sanity_val_steps": 0, "enable_checkpointing": False}
    return pl.Trainer(default_root_dir=folder, **(settings | changes))  # type: ignore[arg-type]


def test_lightning_trains_and_tests_on_it(tmp_path: Path) -> None:
    module, recorder = opened(micro_batch_size=128, accumulation=2, max_steps=12), Recorder()
    runner = trainer(tmp_path, max_steps=12, accumulate_grad_batches=2)
    runner.fit(recorder, datamodule=module)
    steps = module.steps_per_epoch(1)
    assert steps == 5
    assert runner.global_step == 12
    assert [(epoch, step) for epoch, step, _ in recorder.seen] == [(s // 5, s) for s in range(12) for _ in range(2)]
    expected = [images for first in (0, 5, 10) for images, _ in module.training_loader(first)]
    assert all(torch.equal(seen[2], images) for seen, images in zip(recorder.seen, expected, strict=True))
    assert sum(map(len, recorder.evaluated)) == 3 * 144
    recorder.evaluated.clear()
    runner.test(recorder, datamodule=module, verbose=False)
    assert sum(map(len, recorder.evaluated)) == 359


def test_batches_are_not_copied_on_their_way() -> None:
    module = opened()
    batch = next(iter(module.training_loader(0)))
    moved = module.transfer_batch_to_device(batch, torch.device("cpu"), 0)
    assert moved[0] is batch[0]
    assert moved[1] is batch[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_on_a_gpu_are_those_of_the_cpu(digits_folder: Path, folder_data: MakeData) -> None:
    folder = folder_data(digits_folder, augment=AugmentConfig(pad_crop=2, flip=True, cutout=4))
    for data in (digits(), folder):
        module = opened(data, micro_batch_size=20)
        for device_batch, host_batch in zip(
            module.training_loader(0, device="cuda"), opened(data, micro_batch_size=20).training_loader(0), strict=True
        ):
            assert device_batch[0].is_cuda
            torch.testing.assert_close(device_batch[0].cpu(), host_batch[0], rtol=0, atol=2e-6)
            assert torch.equal(device_batch[1].cpu(), host_batch[1])


def test_waiting_for_batches_is_counted_except_for_the_first() -> None:
    closed, waits = [], []

    def slow() -> Iterator[Batch]:
        try:
            for seconds in (0.05, 0.0, 0.02):
                time.sleep(seconds)
                yield torch.zeros(1), torch.zeros(1)
        finally:
            closed.append(True)

    assert len(list(Batches(3, slow, waits.append))) == 3
    assert len(waits) == 2
    assert waits[1] >= 0.02
    assert waits[0] < waits[1]
    with closing(iter(Batches(3, slow))) as batches:
        next(batches)
    assert closed == [True, True]
