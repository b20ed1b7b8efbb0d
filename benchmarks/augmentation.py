"""Augmentation of batches in memory, compared with transforms of single images, on one core.

Both produce normalized float32 batches of the same images, with a crop from the image padded by 4 pixels and a flip.
The ceiling only copies and normalizes batches that are in memory in the network's layout, without crop or flip.
RandAugment is compared with torchvision's, which transforms single uint8 tensors, without reading or normalization.

    python -m benchmarks.augmentation --rounds 5
    python -m benchmarks.augmentation --size 64 --images 10000 --batch 256
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2 as transforms_v2

from benchmarks.photos import tiles
from benchmarks.results import Result
from benchmarks.rounds import compare, machine, threads
from convoy.config.augment_schema import AugmentConfig
from convoy.config.data_schema import DataConfig
from convoy.data.augmentation.batch_augmentation import BatchAugmentation, augment_batch
from convoy.data.batches.collate import BatchSpec
from convoy.data.batches.memory_loader import MemoryEvaluation, MemoryTraining
from convoy.data.sampling.samplers import EvaluationSampler, TrainingSampler
from convoy.data.sources.image_set import LabelledImages

PADDING = 4
MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
GOAL = 50
POLICY_GOAL = 10
_SHARE_OF_THE_PEER = 8
"""The peer processes an eighth of the images per round; otherwise it would take most of the time."""


class PilImages(Dataset[tuple[Tensor, int]]):
    """Data set of Pillow images made from an array on access, like torchvision's CIFAR10."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self._pixels = images.permute(0, 2, 3, 1).contiguous().numpy()
        self._labels = labels.tolist()
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(images.shape[-1], padding=PADDING),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._pixels[index])), self._labels[index]


def main(words: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--size", type=int, default=32, help="of a side, in pixels, at most 426")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(words)
    images, labels = tiles(given.images, given.size), torch.arange(given.images) % 10
    data = DataConfig(
        name="tiles",
        source="cifar10",
        channels=3,
        image_size=given.size,
        mean=MEAN,
        std=STD,
        augment=AugmentConfig(pad_crop=PADDING, flip=True),
    )
    labelled = LabelledImages(images, labels)
    in_order = LabelledImages(images.contiguous(memory_format=torch.channels_last), labels)
    training, evaluation = MemoryTraining(labelled, data, 1), MemoryEvaluation(in_order, data)
    spec, plan = BatchSpec(torch.device("cpu")), TrainingSampler(given.images, 1, given.batch)
    part = slice(0, given.images // _SHARE_OF_THE_PEER)
    loader = DataLoader(PilImages(images[part], labels[part]), given.batch, shuffle=True, drop_last=True)

    def ours() -> float:
        began = time.perf_counter()
        count = sum(len(batch) for batch, _ in training.batches(plan, 0, 0, plan.steps_per_epoch, spec))
        return count / (time.perf_counter() - began)

    def peer() -> float:
        began = time.perf_counter()
        count = sum(len(batch) for batch, _ in loader)
        return count / (time.perf_counter() - began)

    def copied() -> float:
        began = time.perf_counter()
        batches = evaluation.batches(EvaluationSampler(given.images, given.batch), 0, spec)
        return sum(len(batch) for batch, _ in batches) / (time.perf_counter() - began)

    chosen = BatchAugmentation(AugmentConfig(rand_augment=[2, 9]), given.size, 1)
    transform = transforms_v2.RandAugment(2, 9)

    def policy() -> float:
        began = time.perf_counter()
        for first in range(0, given.images, given.batch):
            batch = images[first : first + given.batch]
            operations = chosen.draw(0, torch.arange(first, first + len(batch)))
            assert operations is not None
            augment_batch(batch, operations)
        return given.images / (time.perf_counter() - began)

    def policy_peer() -> float:
        count = given.images // _SHARE_OF_THE_PEER
        began = time.perf_counter()
        for image in images[:count]:
            transform(image)
        return count / (time.perf_counter() - began)

    print(machine("torch", "torchvision", "pillow"))
    title = f"{given.images:,} images of {given.size}x{given.size}, batches of {given.batch}, one thread"
    with threads(1):
        return [
            compare(
                title,
                ("Convoy", ours),
                ("Pillow", peer),
                given.rounds,
                goal=GOAL,
                ceiling=("copying alone", copied),
            ),
            compare(
                f"RandAugment, {title}",
                ("Convoy", policy),
                ("torchvision", policy_peer),
                given.rounds,
                goal=POLICY_GOAL,
            ),
        ]


if __name__ == "__main__":
    main()
