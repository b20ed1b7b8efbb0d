"""Convoy's loader for a folder of JPEGs, compared with torchvision's ImageFolder and a DataLoader.

Convoy uses as many threads as the DataLoader has processes. Both produce uint8 batches of the same images at the same
size. Training applies a random resized crop and a flip, validation a resize and a center crop. The DataLoader's workers
are started before the measurement and persist. The ceiling only reads and decodes whole files in the same threads.

    python -m benchmarks.folder_loader --workers 2 --rounds 5
    python -m benchmarks.folder_loader --root FOLDER      your folder with train/CLASS/*.jpg and val/CLASS/*.jpg
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import simplejpeg
import torch
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.photos import write_folder
from benchmarks.results import Result
from benchmarks.rounds import Arm, compare, machine, threads
from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.data.batches.collate import BatchSpec
from convoy.data.batches.image_loader import StreamedEvaluation, StreamedTraining
from convoy.data.check import FOLDER_SOURCE
from convoy.data.images.bad_images import BadImages
from convoy.data.images.pixel_format import PixelFormat
from convoy.data.listing.folders import find_layout, list_images, read_classes
from convoy.data.reading.file_images import FileImages
from convoy.data.sampling.samplers import EvaluationSampler, TrainingSampler

SIZE, SHORTER_SIDE = 224, 256
GOAL = 1.9


def images_per_s(batches: Iterable[Any], place: int) -> float:
    """Return images/s over all `batches`, whose images are at index `place`."""
    began, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch[place])
    return count / (time.perf_counter() - began)


def our_arms(root: Path, batch_size: int, workers: int) -> tuple[Arm, Arm]:
    """Return arms for training and validation with Convoy."""
    data = DataConfig(
        name="photos",
        source=FOLDER_SOURCE,
        root=str(root),
        image_size=SIZE,
        eval_resize=SHORTER_SIDE,
        channels=3,
        augment=AugmentConfig(random_resized_crop=[0.08, 1.0], flip=True),
    )
    layout = find_layout(str(root))
    assert layout.val is not None, "the folder has train/ and val/"
    classes, bad = read_classes(layout), BadImages(skip=False)
    train, val = list_images(layout.train, classes), list_images(layout.val, classes)
    training = StreamedTraining(FileImages(train, torch.tensor(train.targets), PixelFormat.of(data)), data, 1, bad)
    evaluation = StreamedEvaluation(FileImages(val, torch.tensor(val.targets), PixelFormat.of(data)), data, bad)
    spec = BatchSpec(torch.device("cpu"), num_threads=workers)
    plan, val_plan = TrainingSampler(len(train), 1, batch_size), EvaluationSampler(len(val), batch_size)
    return (
        lambda: images_per_s(training.decoded(plan, 0, 0, plan.steps_per_epoch, spec), 0),
        lambda: images_per_s(evaluation.decoded(val_plan, 0, spec), 0),
    )


def peer_arms(root: Path, batch_size: int, workers: int) -> tuple[Arm, Arm]:
    """Return arms for training and validation with torchvision and PyTorch's DataLoader."""
    random_part = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip()]
    center = [transforms.Resize(SHORTER_SIDE), transforms.CenterCrop(SIZE)]
    loaders = [
        DataLoader(
            ImageFolder(str(root / split), transforms.Compose([*steps, transforms.PILToTensor()])),
            batch_size,
            shuffle=split == "train",
            drop_last=split == "train",
            num_workers=workers,
            persistent_workers=True,
        )
        for split, steps in (("train", random_part), ("val", center))
    ]
    return lambda: images_per_s(loaders[0], 0), lambda: images_per_s(loaders[1], 0)


def decode_only(root: Path, workers: int) -> float:
    """Return the images/s of reading and decoding whole files only."""
    paths = sorted((root / "train").rglob("*.jpg"))
    began = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda path: simplejpeg.decode_jpeg(path.read_bytes()).shape, paths))
    return len(paths) / (time.perf_counter() - began)


def measure(root: Path, given: argparse.Namespace) -> list[Result]:
    """Compare both loaders on the images in `root`."""
    num_bytes = [path.stat().st_size for path in (root / "train").rglob("*.jpg")]
    print(machine("torch", "torchvision", "pillow", "simplejpeg"))
    print(
        f"{len(num_bytes):,} training images of {sum(num_bytes) / len(num_bytes) / 1000:.0f} KB, "
        f"{given.workers} threads against {given.workers} processes, batches of {given.batch}"
    )
    ours, peers = our_arms(root, given.batch, given.workers), peer_arms(root, given.batch, given.workers)
    ceiling = ("decoding alone", lambda: decode_only(root, given.workers))
    with threads(1):  # neither side computes anything in the main thread
        return [
            compare(title, ("Convoy", our), ("ImageFolder", peer), given.rounds, goal=GOAL, ceiling=ceiling)
            for title, our, peer in zip(("folder, training", "folder, validation"), ours, peers, strict=True)
        ]


def main(words: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="folder of images; default: a temporary one")
    parser.add_argument("--images", type=int, default=1024, help="images per split of the temporary folder")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(words)
    if given.root is not None:
        return measure(given.root, given)
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), given.images)
        return measure(Path(folder), given)


if __name__ == "__main__":
    main()
