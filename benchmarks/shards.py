"""Shards and the raw cache compared with the folder that they were packed from, all with Convoy's loader.

The same photographs are read as single files (about 500x375), as JPEGs packed with 256 pixels, and as raw pixels, with
the same number of threads, into uint8 batches of 224 pixels. Training applies a random resized crop and a flip,
validation a resize and a center crop. All files are in the page cache, so the figures do not include a disk or network.
If webdataset is installed, it also reads the shards of JPEGs, in a DataLoader with as many processes as threads. The
ceilings only decode whole packed JPEGs, or only copy 224 pixels of each raw image into a batch.

    python -m benchmarks.shards --workers 2 --rounds 5
    python -m benchmarks.shards --root FOLDER      your folder with train/CLASS/*.jpg and val/CLASS/*.jpg
"""

from __future__ import annotations

import argparse
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import simplejpeg
import torch
from torchvision import transforms

from benchmarks.folder_loader import SHORTER_SIDE, SIZE, images_per_s
from benchmarks.photos import write_folder
from benchmarks.results import Result
from benchmarks.rounds import Arm, compare, machine, threads
from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.data.batches.collate import BatchSpec
from convoy.data.batches.image_loader import StreamedEvaluation, StreamedTraining
from convoy.data.check import FOLDER_SOURCE, SHARDS_SOURCE
from convoy.data.opening.file_splits import file_splits
from convoy.data.opening.open_data import open_data
from convoy.data.sampling.samplers import EvaluationSampler, TrainingSampler
from convoy.data.shards.packing import Packing, pack

GOALS = {"jpeg": 1.5, "raw": 4.0}
WEBDATASET_GOAL = 1.9
SHARD_BYTES = 4 << 20
"""Small enough that each of WebDataset's processes gets shards."""


def config(root: Path, source: str) -> DataConfig:
    """Return the data config for a folder or for shards."""
    return DataConfig(
        name=source,
        source=source,
        root=str(root),
        image_size=SIZE,
        eval_resize=SHORTER_SIDE,
        mean=[0.5],
        std=[0.25],
        augment=AugmentConfig(random_resized_crop=[0.08, 1.0], flip=True),
    )


def arms(data: DataConfig, batch_size: int, workers: int) -> tuple[Arm, Arm]:
    """Return arms for training and validation."""
    opened = open_data(data, 1)
    train, val = opened.train, opened.evaluation["val"]
    assert isinstance(train, StreamedTraining)
    assert isinstance(val, StreamedEvaluation)
    spec = BatchSpec(torch.device("cpu"), num_threads=workers)
    plan = TrainingSampler(opened.sizes["train"], 1, batch_size, order=opened.order)
    val_plan = EvaluationSampler(opened.sizes["val"], batch_size)
    return (
        lambda: images_per_s(train.decoded(plan, 0, 0, plan.steps_per_epoch, spec), 0),
        lambda: images_per_s(val.decoded(val_plan, 0, spec), 0),
    )


def webdataset_arm(root: Path, batch_size: int, workers: int) -> Arm:
    """Training on the same shards as WebDataset's documentation has it."""
    import webdataset

    transform = transforms.Compose(
        [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
    )
    shards = sorted(map(str, root.glob("train-*.tar")))
    data = (
        webdataset.WebDataset(shards, shardshuffle=len(shards), workersplitter=webdataset.split_by_worker)
        .shuffle(1000)
        .decode("pil")
        .to_tuple("jpg", "cls")
        .map_tuple(transform, int)
        .batched(batch_size)
    )
    loader = webdataset.WebLoader(data, batch_size=None, num_workers=workers, persistent_workers=True)
    return lambda: images_per_s(loader, 0)


def images_per_s_in_threads(work: Callable[[int], int], num_parts: int, workers: int) -> float:
    """Return the images/s of `work`, which processes the part of a number and returns its number of images."""
    began = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        count = sum(pool.map(work, range(num_parts)))
    return count / (time.perf_counter() - began)


def decode_only(root: Path, workers: int) -> Arm:
    """Return an arm that only decodes whole JPEGs of the training shards from memory."""
    contents = []
    for path in sorted(root.glob("train-*.tar")):
        packed = path.read_bytes()
        with tarfile.open(path) as shard:
            jpegs = [part for part in shard if part.name.endswith(".jpg")]
        contents += [packed[jpeg.offset_data : jpeg.offset_data + jpeg.size] for jpeg in jpegs]
    parts = [contents[first::workers] for first in range(workers)]

    def decode(part: int) -> int:
        return sum(len(simplejpeg.decode_jpeg(content)) > 0 for content in parts[part])

    return lambda: images_per_s_in_threads(decode, workers, workers)


def copy_only(root: Path, batch_size: int, workers: int) -> Arm:
    """Return an arm that only copies the center of the training shards' raw images into batches."""
    shape = (-1, SHORTER_SIDE, SHORTER_SIDE, 3)
    shards = [np.memmap(path, np.uint8, "r").reshape(shape) for path in sorted(root.glob("train-*.u8"))]
    images = [image for shard in shards for image in shard]
    inner = slice((SHORTER_SIDE - SIZE) // 2, (SHORTER_SIDE + SIZE) // 2)
    parts = [images[first::workers] for first in range(workers)]
    batches = np.zeros((workers, batch_size, SIZE, SIZE, 3), np.uint8)

    def copy(part: int) -> int:
        for place, image in enumerate(parts[part]):
            batches[part, place % batch_size] = image[inner, inner]
        return len(parts[part])

    return lambda: images_per_s_in_threads(copy, workers, workers)


def measure(photos: Path, folder: Path, given: argparse.Namespace) -> list[Result]:
    """Pack the images in `photos` into `folder` and compare the loaders."""
    found = file_splits(config(photos, FOLDER_SOURCE))
    sizes = [Path(path).stat().st_size for path in found.splits["train"].paths]
    print(machine("torch", "pillow", "simplejpeg", "numpy"))
    print(f"{len(sizes):,} training images of {sum(sizes) / len(sizes) / 1000:.0f} KB, {given.workers} threads")
    theirs = arms(config(photos, FOLDER_SOURCE), given.batch, given.workers)
    results = []
    for form, goal in GOALS.items():
        began = time.perf_counter()
        packing = Packing(
            found.targets.names,
            found.splits,
            folder / form,
            form,
            SHORTER_SIDE,
            shard_bytes=SHARD_BYTES,
            num_threads=given.workers,
        )
        splits = pack(packing).splits
        seconds, split = time.perf_counter() - began, splits["train"]
        num_packed = sum(one.num_samples for one in splits.values())
        num_bytes = sum(shard.num_bytes for shard in split.shards) / split.num_samples
        print(f"\n{form}: packed {num_packed / seconds:,.0f} images/s; {num_bytes / 1000:.0f} KB per image")
        ours = arms(config(folder / form, SHARDS_SOURCE), given.batch, given.workers)
        if form == "jpeg":
            ceiling = ("decoding alone", decode_only(folder / form, given.workers))
        else:
            ceiling = ("copying alone", copy_only(folder / form, given.batch, given.workers))
        for title, our, their in zip(("training", "validation"), ours, theirs, strict=True):
            pair = (f"shards {form}", our), ("folder", their)
            results.append(compare(title, *pair, given.rounds, goal=goal, ceiling=ceiling))
        if form == "jpeg" and find_spec("webdataset") is not None:
            peer = webdataset_arm(folder / form, given.batch, given.workers)
            pair = ("shards jpeg", ours[0]), ("webdataset", peer)
            results.append(compare("training", *pair, given.rounds, goal=WEBDATASET_GOAL, ceiling=ceiling))
    return results


def main(words: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of images; default: a temporary one")
    parser.add_argument("--images", type=int, default=1024, help="images per split of the temporary folder")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder, threads(1):  # the main thread computes nothing
        photos = given.root or Path(folder) / "photos"
        if given.root is None:
            write_folder(photos, given.images)
        return measure(photos, Path(folder), given)


if __name__ == "__main__":
    main()
