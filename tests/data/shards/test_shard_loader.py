"""Tests of batches from shards on disk and on an S3 server against those of an image folder."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.data.batches.test_device_copy import counts_per_batch
from tests.data.shards.conftest import MakeData, PackFolder

from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.config.faults import UserError
from convoy.data.batches.collate import Batch, BatchSpec
from convoy.data.check import check_data
from convoy.data.data_module import ImageData
from convoy.data.opening.open_data import open_data
from convoy.data.opening.opened_data import OpenedData
from convoy.data.sampling.samplers import EvaluationSampler, TrainingSampler
from convoy.data.shards import shard_images
from convoy.data.shards.shard_index import read_index
from convoy.data.shards.storage import LocalFolder

CPU = torch.device("cpu")
ALL_AUGMENTATION = AugmentConfig(random_resized_crop=[0.3, 1.0], flip=True, cutout=5)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Use several blocks per shard, and check that no block, thread or open file is left at the end."""
    monkeypatch.setattr(shard_images, "BLOCK_BYTES", 6000)
    monkeypatch.setattr(shard_images, "BLOCKS_AHEAD", 2)
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("convoy-")]
    gc.collect()
    for target in Path("/proc/self/fd").iterdir():
        assert not target.is_symlink() or ".tar" not in str(target.readlink()), "an open shard"


def train_batches(
    data: DataConfig, first: int = 0, end: int = 15, *, threads: int = 2, rank: int = 0, world_size: int = 1
) -> list[Batch]:
    opened = open_data(data, 5)
    plan = TrainingSampler(opened.sizes["train"], 5, 10 // world_size, 1, world_size, opened.order)
    return list(opened.train.batches(plan, rank, first, end, BatchSpec(CPU, num_threads=threads)))


def evaluated(opened: OpenedData, split: str, rank: int = 0, world_size: int = 1) -> Batch:
    plan = EvaluationSampler(opened.sizes[split], 7, world_size)
    batches = opened.evaluation[split].batches(plan, rank, BatchSpec(CPU, num_threads=2))
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def same(ours: list[Batch], others: list[Batch]) -> bool:
    return len(ours) == len(others) and all(
        torch.equal(one[part], other[part]) for one, other in zip(ours, others, strict=True) for part in (0, 1)
    )


def as_set(images: torch.Tensor, labels: torch.Tensor) -> list[tuple[int, bytes]]:
    return sorted((label, image.numpy().tobytes()) for label, image in zip(labels.tolist(), images, strict=True))


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("form", ["jpeg", "raw"])
def test_a_batch_reaches_a_gpu_by_one_asynchronous_copy(
    digits_folder: Path,
    tmp_path: Path,
    pack_folder: PackFolder,
    shard_data: MakeData,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    split: str,
) -> None:
    pack_folder(digits_folder, tmp_path / form, format=form, size=24)
    counts = counts_per_batch(shard_data(tmp_path / form), monkeypatch, split)
    assert sum(one.get("asynchronous", 0) for one in counts) in (len(counts) - 1, len(counts))
    assert all(one.get("synchronous", 0) == 0 and one["kernels"] <= 2 for one in counts)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_the_folder(
    packed: Path, digits_folder: Path, folder_data: MakeData, shard_data: MakeData, split: str, channels: int
) -> None:
    changes = {"channels": channels, "mean": [0.5], "std": [0.25], "eval_resize": 28}
    ours, theirs = open_data(shard_data(packed, **changes), 1), open_data(folder_data(digits_folder, **changes), 1)
    assert (ours.targets, ours.sizes) == (theirs.targets, theirs.sizes)
    assert as_set(*evaluated(ours, split)) == as_set(*evaluated(theirs, split))


def test_val_counts_each_image_once_over_ranks(packed: Path, shard_data: MakeData) -> None:
    opened = open_data(shard_data(packed), 1)
    parts = [evaluated(opened, "val", rank, 4) for rank in range(4)]
    images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    assert as_set(images, labels) == as_set(*evaluated(opened, "val"))


@pytest.mark.parametrize("form", ["jpeg", "raw"])
def test_training_does_not_depend_on_threads_or_the_first_step(
    digits_folder: Path, tmp_path: Path, pack_folder: PackFolder, shard_data: MakeData, form: str
) -> None:
    pack_folder(digits_folder, tmp_path / form, format=form, size=26)
    data = shard_data(tmp_path / form, augment=ALL_AUGMENTATION, shuffle_buffer=16)
    whole = train_batches(data, threads=1)
    assert len(whole) == 15
    assert same(train_batches(data, threads=7), whole)
    assert same(train_batches(data, 8, threads=3), whole[8:])
    ranks = [train_batches(data, 0, 6, rank=rank, world_size=2) for rank in range(2)]
    assert sum(len(labels) for batches in ranks for _, labels in batches) == 60
    labels = torch.cat([labels for batches in ranks for _, labels in batches])
    assert labels.bincount().tolist() == [20, 20, 20]
    for images, _ in ranks[0] + ranks[1]:
        images += 1  # batches are the taker's own, whatever they were read from
    assert same(train_batches(data), whole)


def test_raw_val_images_equal_those_of_the_folder(
    digits_folder: Path, tmp_path: Path, pack_folder: PackFolder, folder_data: MakeData, shard_data: MakeData
) -> None:
    pack_folder(digits_folder, tmp_path / "raw", format="raw", size=28)
    changes = {"image_size": 24, "eval_resize": 28}
    ours, theirs = (
        open_data(shard_data(tmp_path / "raw", **changes), 1),
        open_data(folder_data(digits_folder, **changes), 1),
    )
    assert as_set(*evaluated(ours, "val")) == as_set(*evaluated(theirs, "val"))
    gray = open_data(shard_data(tmp_path / "raw", channels=1, mean=[0.5], std=[0.5], **changes), 1)
    assert evaluated(gray, "val")[0].shape == (ours.sizes["val"], 1, 24, 24)


def test_an_abandoned_epoch_leaves_nothing_behind(packed: Path, shard_data: MakeData) -> None:
    opened = open_data(shard_data(packed), 1)
    batches = iter(opened.train.batches(TrainingSampler(60, 5, 10, order=opened.order), 0, 0, 600, BatchSpec(CPU)))
    next(batches)
    del batches


def test_the_data_module_reads_an_epoch_from_any_step(packed: Path, shard_data: MakeData) -> None:
    def module() -> ImageData:
        made = ImageData(shard_data(packed), seed=2, micro_batch_size=7, accumulation=2, eval_batch_size=16)
        made.open()
        return made

    assert module().num_classes == 3
    assert module().steps_per_epoch(1) == 4
    whole, rest = list(module().training_loader(4)), list(module().training_loader(6))
    assert same(rest, whole[4:])
    assert not same(list(module().training_loader(0)), whole)


def upload(endpoint: str, folder: Path, bucket: str = "sets", prefix: str = "digits/packed") -> str:
    boto3 = pytest.importorskip("boto3")
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket=bucket)
    for path in folder.iterdir():
        client.upload_file(str(path), bucket, f"{prefix}/{path.name}")
    return f"s3://{bucket}/{prefix}"


def test_from_s3_it_is_the_same_and_its_faults_are_reported(
    s3: str, packed: Path, tmp_path: Path, digits_folder: Path, pack_folder: PackFolder, shard_data: MakeData
) -> None:
    address = upload(s3, packed)
    changes = {"augment": ALL_AUGMENTATION, "shuffle_buffer": 16}
    assert same(train_batches(shard_data(address, **changes)), train_batches(shard_data(packed, **changes)))
    assert same(
        [evaluated(open_data(shard_data(address), 1), "val")], [evaluated(open_data(shard_data(packed), 1), "val")]
    )
    pack_folder(digits_folder, tmp_path / "raw", format="raw", size=26)
    raw = upload(s3, tmp_path / "raw", "raw", "here")
    assert same(train_batches(shard_data(f"{raw}/", **changes)), train_batches(shard_data(tmp_path / "raw", **changes)))

    for root, words in {
        "s3://nowhere/packed": f"there is no bucket nowhere at {s3}",
        "s3://sets/digitz": "has no index.json",
        "s3://": "has no bucket name",
        "gs://sets/digits": "is not a supported address",
    }.items():
        with pytest.raises(UserError) as caught:
            open_data(shard_data(root), 1)
        assert words in str(caught.value)

    shard = packed / "train-000001.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[:-2000])
    with pytest.raises(UserError, match=r"train-000001.tar has [\d,]+ bytes instead of"):
        open_data(shard_data(upload(s3, packed, "short")), 1)
    shard.write_bytes(content[:700] + bytes(800) + content[1500:])
    with pytest.raises(UserError, match=r"train-000001.tar is damaged \(an image's checksum differs\)"):
        train_batches(shard_data(upload(s3, packed, "wrong")))


@pytest.mark.usefixtures("s3")
def test_a_store_that_cannot_be_reached_is_reported(monkeypatch: pytest.MonkeyPatch, shard_data: MakeData) -> None:
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="check the connection to the store"):
        open_data(shard_data("s3://sets/digits"), 1)


def test_without_s3fs_the_error_has_a_remedy(monkeypatch: pytest.MonkeyPatch, shard_data: MakeData) -> None:
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(UserError, match=r"pip install 'convoy\[s3\]'"):
        open_data(shard_data("s3://sets/digits"), 1)


def test_faults_of_a_folder_of_shards(packed: Path, digits_folder: Path, tmp_path: Path, shard_data: MakeData) -> None:
    def told(root: object, **changes: object) -> str:
        data = shard_data(root, **changes)
        if faults := check_data(data):
            return "\n".join(map(str, faults))
        with pytest.raises(UserError) as caught:
            open_data(data, 1)
        return str(caught.value)

    assert "does not exist; give the folder that convoy pack wrote" in told(tmp_path / "nowhere")
    assert "is read by data=image_folder" in told(digits_folder)
    (tmp_path / "empty").mkdir()
    assert "has no index.json; pack it with convoy pack" in told(tmp_path / "empty")
    assert "has 3 classes" in told(packed, num_classes=4)
    assert "data.shuffle_buffer=0: must be at least 1" in told(packed, shuffle_buffer=0)
    assert "must be at most" in told(packed, shuffle_buffer=1 << 30)
    (packed / "val-000000.tar").rename(packed / "val-9.tar")
    assert "val-000000.tar is missing; convoy pack verify=" in told(packed)
    (packed / "val-9.tar").rename(packed / "val-000000.tar")
    table = bytearray((packed / "val.samples.npy").read_bytes())
    table[-1] ^= 1
    (packed / "val.samples.npy").write_bytes(table)
    assert "val.samples.npy is damaged" in told(packed)
    index = (packed / "index.json").read_text()
    (packed / "index.json").write_text(index.replace('"version": 1', '"version": 7'))
    assert "version 7; this Convoy reads version 1" in told(packed)
    (packed / "index.json").write_text(index[:99])
    assert "index.json can't be read" in told(packed)


@pytest.mark.parametrize("form", ["jpeg", "raw"])
def test_a_shard_that_is_damaged_while_it_is_read(
    digits_folder: Path, tmp_path: Path, pack_folder: PackFolder, shard_data: MakeData, form: str
) -> None:
    root = tmp_path / form
    pack_folder(digits_folder, root, format=form, size=26)
    data = shard_data(root)
    opened = open_data(data, 5)
    plan = TrainingSampler(60, 5, 10, order=opened.order)
    split = read_index(str(root)).splits["train"]
    os.truncate(root / split.shards[1].file, 100)
    with pytest.raises(UserError, match=f"{split.shards[1].file} is too short"):
        list(opened.train.batches(plan, 0, 0, 6, BatchSpec(CPU)))
    assert LocalFolder(str(root)).sizes() is not None
