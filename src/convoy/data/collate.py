"""The last steps of a batch, the same for sets in memory and for folders."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from convoy.config.schema import DataConfig
from convoy.data.augment import Normalizer, cut_out

Batch = tuple[Tensor, Tensor]
"""Images, float32 [B, C, S, S], normalized; labels, int64 [B]; both on the device."""


@dataclass(frozen=True)
class BatchSpec:
    """How batches are made and handed out.

    Attributes:
        device: where they lie.
        channels_last: memory format of the images.
        num_threads: that decode images of folders.
    """

    device: torch.device
    channels_last: bool = True
    num_threads: int = 1


class BatchFinalizer:
    """Makes a batch of windows into a batch for the network: normalize, cutout, memory format."""

    def __init__(self, data: DataConfig, delivery: BatchSpec) -> None:
        self._cutout = data.augment.cutout
        self._normalize = Normalizer(data.mean, data.std, data.channels, data.image_size, delivery.device)
        self._delivery = delivery

    def __call__(self, windows: Tensor, labels: Tensor, cutout: Tensor | None = None) -> Batch:
        """A batch from uint8 [B, C, S, S] and [B], with squares at `cutout`, [2, B], if given. All on the device."""
        images = self._normalize(windows)
        if cutout is not None:
            images = cut_out(images, cutout, self._cutout)
        memory_format = torch.channels_last if self._delivery.channels_last else torch.contiguous_format
        return images.contiguous(memory_format=memory_format), labels
