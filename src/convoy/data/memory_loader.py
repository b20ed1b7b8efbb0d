"""Batches of data sets in memory: all images as uint8 on the device, one gather per batch, no workers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from convoy.config.schema import DataConfig
from convoy.data.augment import WindowSource, draw
from convoy.data.collate import Batch, BatchFinalizer, BatchSpec
from convoy.data.sampling import EvaluationSampler, TrainingSampler
from convoy.data.sources.image_set import LabelledImages
from convoy.data.transforms import ImageTransforms


class MemoryTraining:
    """Training images in memory, padded and mirrored when they are opened."""

    def __init__(self, images: LabelledImages, data: DataConfig, seed: int) -> None:
        self._data = data
        self._seed = seed
        augment = data.augment
        self._source = WindowSource.of(images.images, augment.pad_crop, augment.flip)
        self._targets = images.labels
        self._transforms = ImageTransforms(data, seed)

    def batches(
        self, sampler: TrainingSampler, rank: int, first_step: int, end_step: int, spec: BatchSpec
    ) -> Iterator[Batch]:
        """Yield the micro batches of `rank` in the optimizer steps first_step .. end_step - 1."""
        source, targets = self._on(spec.device)
        finish = BatchFinalizer(self._data, spec)
        for epoch, share in sampler.epochs(rank, first_step, end_step):
            # Random parameters are drawn once per epoch, which saves a dozen small operations per batch.
            samples = share.flatten().to(source.pixels.device)
            draws = draw(self._data.augment, self._data.image_size, self._seed, epoch, samples)
            starts = source.starts(samples, draws.window, draws.mirrored)
            sample_targets = targets[samples].to(spec.device)
            cutout = None if draws.cutout is None else draws.cutout.to(spec.device)
            for begin in range(0, len(samples), sampler.micro_batch_size):
                batch = slice(begin, begin + sampler.micro_batch_size)
                windows = source.cut(starts[batch]).to(spec.device)
                if self._transforms:
                    windows = self._transformed(windows, epoch, samples[batch], spec.num_threads)
                yield finish(windows, sample_targets[batch], None if cutout is None else cutout[:, batch])

    def _transformed(self, images: Tensor, epoch: int, samples: Tensor, num_threads: int) -> Tensor:
        """Return images, uint8 [B, C, S, S], each transformed in a thread."""
        with ThreadPoolExecutor(num_threads, thread_name_prefix="convoy-transform") as pool:
            return torch.stack(list(pool.map(self._transforms, images, self._transforms.seeds(epoch, samples))))

    def _on(self, device: torch.device) -> tuple[WindowSource, Tensor]:
        """Return images and targets on the device they are read from; the first call moves them there."""
        place = device if self._source.pixels.device == device or fits(self._source.pixels, device) else CPU
        if self._source.pixels.device != place:
            self._source, self._targets = self._source.to(place), self._targets.to(place)
        return self._source, self._targets


class MemoryEvaluation:
    """Images of a split in memory, not augmented."""

    def __init__(self, images: LabelledImages, data: DataConfig) -> None:
        self._data = data
        self._images = images

    def batches(self, sampler: EvaluationSampler, rank: int, spec: BatchSpec) -> Iterator[Batch]:
        """Yield the batches of `rank`."""
        finish = BatchFinalizer(self._data, spec)
        for batch in sampler.batches(rank):
            start, end = int(batch.samples[0]), int(batch.samples[-1]) + 1
            images, labels = self._images.images[start:end], self._images.labels[start:end]
            yield finish(images.to(spec.device), labels.to(spec.device))


CPU = torch.device("cpu")


def fits(pixels: Tensor, device: torch.device) -> bool:
    """Return whether `pixels` fit in a quarter of the device's free memory; otherwise they stay on the CPU.

    The network and its activations, which are allocated later, need the rest.
    """
    if device.type != "cuda":
        return device.type == "cpu"
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return pixels.nbytes <= free_bytes // 4
