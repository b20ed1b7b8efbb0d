"""Batches of images that are read while training runs, augmented for training and as they are for evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from convoy.config.data_schema import DataConfig
from convoy.config.image_size import Sides, sides_of
from convoy.data.augmentation.batch_augmentation import BatchAugmentation, augment_batch
from convoy.data.augmentation.padded_crops import WindowLayout, WindowSource, draw
from convoy.data.augmentation.transforms import ImageTransforms
from convoy.data.batches.collate import Batch, BatchFinalizer, BatchSpec
from convoy.data.batches.decode_ahead import BatchDraws, BatchWork, DecodedBatches, Fill, decode_ahead
from convoy.data.images.bad_images import BadImages
from convoy.data.images.crop_geometry import RandomCrop
from convoy.data.images.decode import LazyImage
from convoy.data.images.resize import crop_and_resize, resize_and_center
from convoy.data.located.located_targets import LocatedTargets, Pixels, write_picture
from convoy.data.located.placement import Placement
from convoy.data.reading.split_images import OpenBatch, SplitImages
from convoy.data.sampling.randomness import Stream, as_coin, random_bits
from convoy.data.sampling.samplers import EvaluationSampler, MicroBatch, TrainingSampler
from convoy.data.source_names import FIT_VIEW


class StreamedTraining:
    """Training images that are decoded on demand and augmented."""

    def __init__(self, pictures: SplitImages, data: DataConfig, seed: int, bad_images: BadImages) -> None:
        self._pictures = pictures
        self._data = data
        self._seed = seed
        self._bad_images = bad_images
        self._transforms = ImageTransforms(data, seed)
        self._size = sides_of(data.image_size)
        located = pictures.located
        self._picture_size = self._size if located is None else located.picture_size(self._size)
        self._crop = RandomCrop(data.augment, self._picture_size, seed)
        self._augmentation = BatchAugmentation(data.augment, data.image_size, seed)

    def batches(
        self, sampler: TrainingSampler, rank: int, first_step: int, end_step: int, spec: BatchSpec
    ) -> Iterator[Batch]:
        """Yield the micro batches of `rank` in the optimizer steps first_step .. end_step - 1."""
        augment = self._data.augment
        finish = BatchFinalizer(self._data, spec)
        with closing(self.decoded(sampler, rank, first_step, end_step, spec)) as decoded:
            for images, targets, draws in decoded:
                if draws.starts is not None:
                    images = WindowSource.of(images, augment.pad_crop, augment.flip).cut(draws.starts)
                if self._pictures.located is not None:
                    targets = self._pictures.located.finished(targets, draws.operations, self._size)
                if draws.operations is not None:
                    images = augment_batch(images, draws.operations)
                yield finish(images, targets, draws.cutout, draws.erasing)

    def decoded(
        self, sampler: TrainingSampler, rank: int, first_step: int, end_step: int, spec: BatchSpec
    ) -> DecodedBatches:
        """Yield the same batches as uint8, before the augmentation of whole batches."""
        data = self._data
        batches = self._pictures.visit(sampler.micro_batches(rank, first_step, end_step))
        shape = (sampler.micro_batch_size, *sides_of(data.image_size), data.channels)
        return decode_ahead(batches, self._prepare, shape, self._bad_images, spec)

    def _prepare(self, batch: MicroBatch, opened: OpenBatch) -> BatchWork:
        def draw_places(places: Tensor) -> BatchDraws:
            return self._draws(batch.epoch, batch.keys[places])

        if (located := self._pictures.located) is not None:
            slots = located.slots(len(batch.samples), self._size)
            fill = self._located_fill(batch, opened, located, slots)
            return BatchWork(fill, draw_places, lambda places: torch.from_numpy(slots)[places])
        fill = self._crops(batch, opened)
        if not self._transforms:
            return BatchWork(fill, draw_places, opened.targets)
        seeds = self._transforms.seeds(batch.epoch, batch.keys)

        def fill_and_transform(place: int, out: Pixels) -> None:
            fill(place, out)
            self._transforms.apply_to_pixels(out, seeds[place])

        return BatchWork(fill_and_transform, draw_places, opened.targets)

    def _located_fill(self, batch: MicroBatch, opened: OpenBatch, located: LocatedTargets, slots: NDArray[Any]) -> Fill:
        """Return the function that writes images and their targets, which are moved together."""
        numbers = self._crop.numbers(batch.epoch, batch.keys) if self._crop.is_on else None
        is_mirrored = self._coins(batch)
        seeds = self._transforms.seeds(batch.epoch, batch.keys)

        def fill(place: int, out: Pixels) -> None:
            picture, slot = opened.image(place), slots[place]
            width, height = picture.width, picture.height
            if numbers is None:
                placement = Placement.fitting(width, height, self._picture_size, is_mirrored=is_mirrored[place])
            else:
                box = self._crop.box(width, height, numbers[place])
                placement = Placement(box, self._picture_size, is_mirrored[place])
            located.write(int(batch.samples[place]), picture, placement, out, slot)
            self._transforms.apply_to_located(located, out, slot, seeds[place])
            located.complete(out, slot, seeds[place])

        return fill

    def _coins(self, batch: MicroBatch) -> list[bool]:
        """Return whether each image of a batch is mirrored while it is written."""
        if not self._data.augment.flip:
            return [False] * len(batch.samples)
        coins: list[bool] = as_coin(random_bits(self._seed, batch.epoch, batch.keys, [Stream.MIRROR])[0]).tolist()
        return coins

    def _draws(self, epoch: int, keys: Tensor) -> BatchDraws:
        """Draw the parameters that the augmentation of whole batches uses."""
        data, augment = self._data, self._data.augment
        others = BatchDraws(
            operations=self._augmentation.draw(epoch, keys), erasing=self._augmentation.draw_erasing(epoch, keys)
        )
        # With a random crop or targets that move along, images are mirrored while they are written.
        is_written = self._crop.is_on or self._pictures.located is not None
        cuts = augment.pad_crop or (augment.flip and not is_written)
        if not cuts and not augment.cutout:
            return others
        drawn = draw(augment, data.image_size, self._seed, epoch, keys)
        if not cuts:
            return others._replace(cutout=drawn.cutout)
        layout = WindowLayout(data.image_size, data.channels, augment.pad_crop, augment.flip)
        return others._replace(starts=layout.starts(torch.arange(len(keys)), drawn), cutout=drawn.cutout)

    def _crops(self, batch: MicroBatch, opened: OpenBatch) -> Fill:
        if not self._crop.is_on:
            return lambda place, out: fill_for_evaluation(opened.image(place), self._data, out)
        numbers, is_mirrored = self._crop.numbers(batch.epoch, batch.keys), self._coins(batch)

        def fill(place: int, out: Pixels) -> None:
            picture = opened.image(place)
            box = self._crop.box(picture.width, picture.height, numbers[place])
            crop_and_resize(picture, box, out, mirrored=is_mirrored[place])

        return fill


class StreamedEvaluation:
    """Images of a split, decoded on demand and not augmented."""

    def __init__(self, pictures: SplitImages, data: DataConfig, bad_images: BadImages) -> None:
        self._pictures = pictures
        self._data = data
        self._bad_images = bad_images

    def batches(self, sampler: EvaluationSampler, rank: int, spec: BatchSpec) -> Iterator[Batch]:
        """Yield the batches of `rank`."""
        finish = BatchFinalizer(self._data, spec)
        located, size = self._pictures.located, sides_of(self._data.image_size)
        with closing(self.decoded(sampler, rank, spec)) as decoded:
            for images, targets, _ in decoded:
                yield finish(images, targets if located is None else located.finished(targets, None, size))

    def decoded(self, sampler: EvaluationSampler, rank: int, spec: BatchSpec) -> DecodedBatches:
        """Yield the same batches as uint8."""
        data = self._data
        shape = (sampler.largest_batch, *sides_of(data.image_size), data.channels)

        return decode_ahead(self._pictures.visit(sampler.batches(rank)), self._prepare, shape, self._bad_images, spec)

    def _prepare(self, batch: MicroBatch, opened: OpenBatch) -> BatchWork:
        located, size = self._pictures.located, sides_of(self._data.image_size)
        if located is None:
            return BatchWork(
                lambda place, out: fill_for_evaluation(opened.image(place), self._data, out),
                lambda _: BatchDraws(),
                opened.targets,
            )
        slots, area = located.slots(len(batch.samples), size), located.picture_size(size)

        def fill(place: int, out: Pixels) -> None:
            picture = opened.image(place)
            placement = Placement.fitting(picture.width, picture.height, area)
            located.write(int(batch.samples[place]), picture, placement, out, slots[place])
            located.complete(out, slots[place], None)

        return BatchWork(fill, lambda _: BatchDraws(), lambda places: torch.from_numpy(slots)[places])


def fill_for_evaluation(picture: LazyImage, data: DataConfig, out: Pixels) -> None:
    """Write an image as val shows it into `out`, uint8 [H, W, C].

    Raises:
        BadImageError: if the image can't be decoded.
    """
    if data.eval_view == FIT_VIEW:
        write_picture(picture, Placement.fitting(picture.width, picture.height, Sides(*out.shape[:2])), out)
        return
    resize_and_center(picture, data.eval_resize or sides_of(data.image_size).shorter, out)
