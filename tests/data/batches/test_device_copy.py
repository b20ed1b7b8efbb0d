"""Tests of what the batches of each kind of data set cost a GPU: copies, waits and kernels, counted on a fake one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.data.fake_cuda import CUDA, FakeCopyStream, fake_cuda
from tests.data.test_data_module import digits

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.data.batches.collate import BatchSpec
from convoy.data.batches.device_copy import BatchBuffer
from convoy.data.opening.open_data import open_data
from convoy.data.sampling.samplers import EvaluationSampler, TrainingSampler

MakeData = Callable[..., DataConfig]
ON_CUDA = BatchSpec(CUDA, num_threads=2)


def counts_per_batch(data: DataConfig, monkeypatch: pytest.MonkeyPatch, split: str = "train") -> list[dict[str, int]]:
    """Return the counts of each batch after the first."""
    opened, counts = open_data(data, 5), []
    with fake_cuda(monkeypatch) as counter:
        if split == "train":
            plan = TrainingSampler(opened.sizes["train"], 5, 10, 1, 1, opened.order)
            batches = opened.train.batches(plan, 0, 0, 6, ON_CUDA)
        else:
            batches = opened.evaluation[split].batches(EvaluationSampler(opened.sizes[split], 5), 0, ON_CUDA)
        for images, targets in batches:
            assert images.device == targets.device == CUDA
            assert images.is_contiguous(memory_format=torch.channels_last)
            assert counter.counts.pop("float64", 0) == 0, "an Apple GPU has no float64"
            counts.append(dict(counter.counts))
            counter.counts.clear()
    return counts[1:]


@pytest.mark.parametrize(
    ("augment", "kernels"),
    [
        (AugmentConfig(), 2),  # float32, and one for normalization
        (AugmentConfig(random_resized_crop=[0.3, 1.0], flip=True), 2),
        (AugmentConfig(pad_crop=2), 5),  # zeros, copy, gather
        (AugmentConfig(pad_crop=2, flip=True), 7),  # a mirrored copy
        (AugmentConfig(color_jitter=[0.4, 0.4, 0.4, 0.0]), 160),  # 4 steps of up to 3 kinds
        (AugmentConfig(rand_augment=[2, 9], erasing=0.5), 250),  # 2 steps of up to 5 kinds in 5 images
    ],
)
def test_a_training_batch_of_a_folder_is_one_asynchronous_copy(
    digits_folder: Path, folder_data: MakeData, monkeypatch: pytest.MonkeyPatch, augment: AugmentConfig, kernels: int
) -> None:
    counts = counts_per_batch(folder_data(digits_folder, augment=augment), monkeypatch)
    assert len(counts) == 5
    assert sum(one.get("asynchronous", 0) for one in counts) in (4, 5), "the first batch may send the second"
    for one in counts:
        assert one.get("synchronous", 0) == 0
        assert one["kernels"] <= kernels


def test_a_validation_batch_is_one_asynchronous_copy(
    digits_folder: Path, folder_data: MakeData, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = counts_per_batch(folder_data(digits_folder), monkeypatch, "val")
    assert sum(one.get("asynchronous", 0) for one in counts) in (len(counts) - 1, len(counts))
    assert all(one.get("synchronous", 0) == 0 and one["kernels"] <= 2 for one in counts)


def test_a_set_in_memory_is_not_copied_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in counts_per_batch(digits(augment=AugmentConfig(pad_crop=2, flip=True)), monkeypatch):
        assert one.get("synchronous", 0) == one.get("asynchronous", 0) == 0
        assert one["kernels"] <= 3  # gather, float32, normalization
    for one in counts_per_batch(digits(), monkeypatch, "val"):
        assert one.get("synchronous", 0) == 0
        assert one["asynchronous"] == 2


@pytest.mark.parametrize("columns", [1, 40])
def test_images_targets_and_draws_arrive_together(columns: int) -> None:
    stream = FakeCopyStream(torch.device("cpu"))
    buffer = BatchBuffer.__new__(BatchBuffer)
    # On a GPU the memory is pinned, which needs one.
    buffer._allocate = lambda num_bytes: _allocate(buffer, num_bytes)  # type: ignore[method-assign]
    buffer.__init__((4, 3, 3, 3), stream)  # type: ignore[misc]
    pixels = torch.arange(4 * 27).to(torch.uint8).view(4, 3, 3, 3)
    buffer.pixels[:] = pixels.numpy()
    buffer.keep([0, 2, 3])
    targets = torch.rand(3, columns)
    buffer.send(3, (targets, (None, torch.tensor([[5, 6, 7], [8, 9, 2]]))))
    images, (received, (nothing, draws)) = buffer.receive()
    assert torch.equal(images, pixels[[0, 2, 3]].permute(0, 3, 1, 2))
    assert torch.equal(received, targets)
    assert nothing is None
    assert draws.tolist() == [[5, 6, 7], [8, 9, 2]]
    assert stream.calls == ["copy", "hand_over"]


def _allocate(buffer: BatchBuffer, num_bytes: int) -> None:
    stream, buffer._stream = buffer._stream, None
    BatchBuffer._allocate(buffer, num_bytes)
    buffer._stream = stream
