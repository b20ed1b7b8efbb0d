"""Lightning data module of a run, which also works without a Trainer."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError
from convoy.data.batches.collate import Batch, BatchSpec
from convoy.data.batches.device_copy import to_device
from convoy.data.check import network_sizes
from convoy.data.checks.class_balance import NO_SAMPLER
from convoy.data.inspection.target_counts import count_targets
from convoy.data.opening.open_data import open_data
from convoy.data.opening.opened_data import OpenedData
from convoy.data.sampling.samplers import EvaluationSampler, TrainingSampler
from convoy.data.source_names import WHOLE_VIEW
from convoy.data.split_notes import missing_split, unequal_notes
from convoy.data.targets import CLASS_INDEX, MASK, VALUES, Targets, positions_of
from convoy.runtime.cpu_cores import own_cores


class Batches:
    """Sized iterable of batches. Nothing is read and no thread starts before the first `next()`.

    Args:
        length: number of batches.
        start: function that returns the iterator of the batches.
        waited: function called with the seconds of waiting for each batch except the first.
    """

    def __init__(
        self, length: int, start: Callable[[], Iterator[Batch]], waited: Callable[[float], None] | None = None
    ) -> None:
        self._length = length
        self._start = start
        self._waited = waited

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        # A generator, so that `start` is called by the first next(), and its result is closed with this one.
        batches = iter(self._start())
        try:
            is_first = True
            while True:
                began = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    return
                if self._waited is not None and not is_first:
                    self._waited(time.perf_counter() - began)
                is_first = False
                yield batch
        finally:
            if isinstance(batches, Generator):
                batches.close()


class ImageData(pl.LightningDataModule):
    """Batches of a data set in an order that depends on the seed and the optimizer step only.

    A batch is a `Batch`: images, float32 [B, C, H, W], normalized, and targets, both on the device. Training batches
    have `micro_batch_size` samples (minus those skipped by data.on_bad_image=skip); an optimizer step has
    `accumulation` of them. The Trainer needs `reload_dataloaders_every_n_epochs=1`: each call of `train_dataloader`
    returns the rest of one epoch.

    Attributes:
        targets: kind and names of the targets. After `open`.
        num_classes: number of classes, labels or values. After `open`.
        classes: names of the classes, labels or values. After `open`.
        sizes: number of images in "train", "val" and "test"; 0 if there is no such split. After `open`.
        notes: facts that a user may not expect, one sentence each. After `open`.
        waited_s: seconds for which training has waited for batches; includes the augmentation of sets in memory.
    """

    def __init__(
        self,
        data: DataConfig,
        *,
        seed: int,
        micro_batch_size: int,
        accumulation: int,
        eval_batch_size: int,
        channels_last: bool = True,
        max_steps: int | None = None,
    ) -> None:
        """Store the settings; `open` reads the data.

        Args:
            data: the data config, checked (see `check_data`).
            seed: seed of order and augmentation.
            micro_batch_size: samples per rank in one forward pass of training.
            accumulation: forward passes per optimizer step.
            eval_batch_size: samples per rank in one forward pass of val and test.
            channels_last: whether images are in NHWC memory.
            max_steps: optimizer step at which training ends; None: at the end of an epoch.
        """
        super().__init__()
        self.data = data
        self.seed = seed
        self.micro_batch_size = micro_batch_size
        self.accumulation = accumulation
        self.eval_batch_size = eval_batch_size
        self.channels_last = channels_last
        self.max_steps = max_steps
        self.waited_s = 0.0
        self._opened: OpenedData | None = None
        self._positions: Tensor | None = None

    def open(self) -> None:
        """Read the data set, or list its files, unless it is open.

        Raises:
            UserError: if a file can't be used.
        """
        if self._opened is None:
            self._opened = open_data(self.data, self.seed)

    def match_classes(self, trained: Targets) -> tuple[str, ...]:
        """Change the indices of the classes to those of a trained network, for evaluation.

        Args:
            trained: targets that the network was trained with.

        Returns:
            The network's classes that the data set lacks.

        Raises:
            UserError: if the classes don't match, see `positions_of`.
        """
        opened = self._set
        found = opened.targets
        positions = positions_of(found, trained, "data", self.data.name)
        if positions != tuple(range(len(trained.names))):
            self._positions = torch.tensor(positions)
            self._opened = replace(opened, targets=trained)
        return tuple(name for index, name in enumerate(trained.names) if index not in set(positions))

    @property
    def num_classes(self) -> int:
        return len(self._set.targets.names)

    @property
    def classes(self) -> tuple[str, ...]:
        return self._set.targets.names

    @property
    def targets(self) -> Targets:
        return self._set.targets

    @property
    def model_sizes(self) -> dict[str, Any]:
        """Sizes that a model depends on, with one output per target name. After `open`."""
        return network_sizes(self.data, len(self.targets.names))

    def class_counts(self) -> Tensor:
        """Return the number of training images per class, int64 [num_classes]; for masks see `pixels_per_class`.

        Raises:
            UserError: if the classes of a user's data set are only known after reading its images, or a mask can't be
                used.
        """
        targets, located = self._set.training_targets, self._set.images["train"].located
        if self.targets.kind == MASK:
            from convoy.data.located.masks import MaskTargets

            if isinstance(located, MaskTargets):
                return located.pixels_per_class(num_decoding_threads(self.data.num_workers, 1))
        if targets is None:
            rule = "can't be counted by class: the data set has no attribute `targets` with the class of each image"
            raise UserError(Fault("data.train", rule, "add it, or give loss.weight as a list"))
        return torch.bincount(targets.cpu(), minlength=self.num_classes)

    def counts_by_name(self) -> dict[str, int] | None:
        """Return the number of training images per class, or with each label; None for values and unknown classes."""
        found = self._set
        if found.training_targets is None or found.targets.kind == VALUES:
            return None
        counts = count_targets(found.targets, found.training_targets)
        return dict(zip(found.targets.names, counts, strict=True))

    @property
    def sizes(self) -> dict[str, int]:
        return self._set.sizes

    @property
    def notes(self) -> tuple[str, ...]:
        opened = self._set
        labels = opened.training_targets
        if labels is None or opened.targets.kind != CLASS_INDEX or self.data.sampler != NO_SAMPLER:
            return opened.notes
        return (*opened.notes, *unequal_notes(opened.targets, self.class_counts().tolist()))

    @property
    def skipped_images(self) -> dict[str, str]:
        """Decoder message for each image that this process has skipped, by path."""
        return dict(self._set.bad_images.reasons)

    def image_names(self, split: str) -> list[str]:
        """Return the name of each image of a split for messages: its path, or its position in the data set."""
        images = self._set.images[split]
        return [images.name(sample) for sample in range(len(images))]

    def steps_per_epoch(self, world_size: int) -> int:
        """Return the number of optimizer steps per epoch.

        Raises:
            UserError: if there are fewer training images than a global batch needs.
        """
        return self._sampler(world_size).steps_per_epoch

    def training_loader(
        self, first_step: int, *, rank: int = 0, world_size: int = 1, device: torch.device | str = "cpu"
    ) -> Batches:
        """Return the micro batches of `rank` from step `first_step` to the end of its epoch or to max_steps."""
        opened, sampler, spec = self._set, self._sampler(world_size), self._batch_spec(device)
        end_step = sampler.epoch_end(first_step)
        if self.max_steps is not None:
            end_step = max(first_step, min(end_step, self.max_steps))
        return Batches(
            (end_step - first_step) * self.accumulation,
            lambda: opened.train.batches(sampler, rank, first_step, end_step, spec),
            self._count_wait,
        )

    def evaluation_loader(
        self,
        split: str,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        device: torch.device | str | None = None,
    ) -> Batches:
        """Return the batches of `rank` of a split: "val", "test", or "train" without augmentation.

        Rank, world size and device default to those of the Trainer.

        Raises:
            UserError: if there is no such split, or it has fewer images than there are ranks.
        """
        opened = self._set
        if split not in opened.evaluation:
            raise missing_split(self.data, split)
        rank = self._trainer_or(rank, "global_rank", 0)
        world_size = self._trainer_or(world_size, "world_size", 1)
        spec = self._batch_spec(self._device() if device is None else device)
        batch_size = 1 if self.data.eval_view == WHOLE_VIEW else self.eval_batch_size
        sampler = EvaluationSampler(opened.sizes[split], batch_size, world_size, split)
        return Batches(
            sampler.num_batches,
            lambda: self._matched(opened.evaluation[split].batches(sampler, rank, spec), spec.device),
        )

    def _matched(self, batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
        """Yield the batches with the indices of `match_classes`."""
        if self._positions is None:
            return batches
        positions = to_device(self._positions, device)
        return (batch._replace(targets=positions[batch.targets]) for batch in batches)

    def setup(self, stage: str) -> None:
        self.open()

    def train_dataloader(self) -> Batches:
        """Return the batches from the Trainer's optimizer step to the end of its epoch, or to max_steps.

        A Trainer that resumes within an epoch must count the batches of that epoch from zero: it ends the epoch when
        its count reaches the length of the loader, which contains only the rest of the epoch.
        """
        trainer = self.trainer
        assert trainer is not None, "without a Trainer, use training_loader"
        return self.training_loader(
            trainer.global_step, rank=trainer.global_rank, world_size=trainer.world_size, device=self._device()
        )

    def val_dataloader(self) -> Batches:
        return self.evaluation_loader("val")

    def test_dataloader(self) -> Batches:
        return self.evaluation_loader("test")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Return the batch unchanged, since it is already on the device."""
        return batch.to(device)

    def _count_wait(self, seconds: float) -> None:
        self.waited_s += seconds

    @property
    def _set(self) -> OpenedData:
        assert self._opened is not None, "call open() first"
        return self._opened

    def _sampler(self, world_size: int) -> TrainingSampler:
        opened = self._set
        return TrainingSampler(
            opened.sizes["train"],
            self.seed,
            self.micro_batch_size,
            self.accumulation,
            world_size,
            opened.order,
            opened.shared,
        )

    def _batch_spec(self, device: torch.device | str) -> BatchSpec:
        device = torch.device(device)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", torch.cuda.current_device())
        local_processes = 1 if self.trainer is None else self.trainer.num_devices
        return BatchSpec(device, self.channels_last, num_decoding_threads(self.data.num_workers, local_processes))

    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def _trainer_or(self, given: int | None, name: str, otherwise: int) -> int:
        if given is not None:
            return given
        return otherwise if self.trainer is None else int(getattr(self.trainer, name))


def num_decoding_threads(num_workers: int | None, local_processes: int) -> int:
    """Return `num_workers`, or if it is None, the number of CPU cores that this process may use.

    Under Slurm, each process has the cores of its task; elsewhere, the processes of a run on one machine share them.
    """
    if num_workers is not None:
        return num_workers
    return own_cores(local_processes)
