"""Data module that trains and validates on one batch, to check that a network can learn it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import repeat
from typing import Any

import torch

from convoy.data.batches.collate import Batch
from convoy.data.data_module import Batches, ImageData


class RepeatedBatch(ImageData):
    """Data of which only the first training batch of each rank is used, in training and in val."""

    def training_loader(
        self, first_step: int, *, rank: int = 0, world_size: int = 1, device: torch.device | str = "cpu"
    ) -> Batches:
        """Return the first batch as often as there are micro batches in the rest of the epoch."""
        count = len(super().training_loader(first_step, rank=rank, world_size=world_size, device=device))
        return Batches(count, lambda: repeat(self._first, count))

    def evaluation_loader(self, split: str, **given: Any) -> Batches:
        """Return the first training batch for val, and the batches of other splits."""
        return Batches(1, self._once) if split == "val" else super().evaluation_loader(split, **given)

    def _once(self) -> Iterator[Batch]:
        return iter((self._first,))

    @cached_property
    def _first(self) -> Batch:
        rank, world_size = self._trainer_or(None, "global_rank", 0), self._trainer_or(None, "world_size", 1)
        return next(iter(super().training_loader(0, rank=rank, world_size=world_size, device=self._device())))
