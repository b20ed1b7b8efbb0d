"""Batches of data sets in memory: all images as uint8 on the device, one gather per batch, no workers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from convoy.config.data_schema import DataConfig
from convoy.data.augmentation.padded_crops import WindowLayout, WindowSource, draw
from convoy.data.augmentation.transforms import ImageTransforms
from convoy.data.batches.collate import Batch, BatchFinalizer, BatchSpec
from convoy.data.batches.device_copy import to_device
from convoy.data.sampling.samplers import EvaluationSampler, TrainingSampler
from convoy.data.sources.image_set import LabelledImages

if TYPE_CHECKING:
    from convoy.data.augmentation.batch_augmentation import BatchAugmentation


class MemoryTraining:
    """Training images in memory, padded and mirrored when they are opened."""

    def __init__(self, images: LabelledImages, data: DataConfig, seed: int) -> None:
        self._data = data
        self._seed = seed
        augment = data.augment
        self._source = WindowSource.of(images.images, augment.pad_crop, augment.flip)
        _, channels, *size = images.images.shape
        self._layout = WindowLayout(size, channels, augment.pad_crop, augment.flip)
        self._targets = images.labels
        self._transforms = ImageTransforms(data, seed)
        self._augmentation: BatchAugmentation | None = None
        if augment.has_operations or augment.erasing:
            from convoy.data.augmentation.batch_augmentation import BatchAugmentation

            self._augmentation = BatchAugmentation(augment, data.image_size, seed)

    def batches(
        self, sampler: TrainingSampler, rank: int, first_step: int, end_step: int, spec: BatchSpec
    ) -> Iterator[Batch]:
        """Yield the micro batches of `rank` in the optimizer steps first_step .. end_step - 1."""
        source, targets = self._on(spec.device)
        finish = BatchFinalizer(self._data, spec)
        for epoch, share in sampler.epochs(rank, first_step, end_step):
            # Random parameters are drawn once per epoch, which saves a dozen small operations per batch.
            samples, keys = (part.flatten().to(source.pixels.device) for part in share)
            keys_on_cpu = share.keys.flatten()
            draws = draw(self._data.augment, self._data.image_size, self._seed, epoch, keys)
            starts = self._layout.starts(samples, draws)
            sample_targets = to_device(targets[samples], spec.device)
            cutout = None if draws.cutout is None else to_device(draws.cutout, spec.device)
            for begin in range(0, len(samples), sampler.micro_batch_size):
                batch = slice(begin, begin + sampler.micro_batch_size)
                windows = to_device(source.cut(starts[batch]), spec.device)
                if self._transforms:
                    windows = self._transformed(windows, epoch, keys_on_cpu[batch], spec.num_threads)
                windows, erasing = self._augmented(windows, epoch, keys_on_cpu[batch], spec.device)
                yield finish(windows, sample_targets[batch], None if cutout is None else cutout[:, batch], erasing)

    def _augmented(
        self, images: Tensor, epoch: int, keys: Tensor, device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """Return the images after the operations of the augmentation, and the rectangles to erase."""
        if self._augmentation is None:
            return images, None
        operations = self._augmentation.draw(epoch, keys)
        if operations is not None:
            from convoy.data.augmentation.batch_augmentation import augment_batch

            images = augment_batch(images, tree_map_only(Tensor, lambda one: to_device(one, device), operations))
        erasing = self._augmentation.draw_erasing(epoch, keys)
        return images, None if erasing is None else to_device(erasing, device)

    def _transformed(self, images: Tensor, epoch: int, keys: Tensor, num_threads: int) -> Tensor:
        """Return images, uint8 [B, C, H, W], each transformed in a thread."""
        with ThreadPoolExecutor(num_threads, thread_name_prefix="convoy-transform") as pool:
            return torch.stack(list(pool.map(self._transforms, images, self._transforms.seeds(epoch, keys))))

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
        if spec.device.type == "cuda" and not self._images.images.is_pinned():
            self._images = LabelledImages(self._images.images.pin_memory(), self._images.labels.pin_memory())
        for batch in sampler.batches(rank):
            start, end = int(batch.samples[0]), int(batch.samples[-1]) + 1
            images, labels = self._images.images[start:end], self._images.labels[start:end]
            yield finish(to_device(images, spec.device), to_device(labels, spec.device))


CPU = torch.device("cpu")


def fits(pixels: Tensor, device: torch.device) -> bool:
    """Return whether `pixels` fit in a quarter of the device's free memory; otherwise they stay on the CPU.

    The network and its activations, which are allocated later, need the rest.
    """
    if device.type != "cuda":
        return device.type == "cpu"
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return pixels.nbytes <= free_bytes // 4
