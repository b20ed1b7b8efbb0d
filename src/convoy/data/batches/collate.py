"""Last steps of a batch, shared by all sources: normalization, cutout and memory format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from pytorch_lightning.utilities import move_data_to_device
from torch import Tensor

from convoy.config.data_schema import DataConfig
from convoy.config.image_size import sides_of
from convoy.data.augmentation.normalization import Normalizer, cut_out


class Batch(NamedTuple):
    """Images and their targets, on the same device.

    Attributes:
        images: float32 [B, C, H, W], normalized.
        targets: a tensor, or a nested collection of tensors, as `convoy.data.targets` describes for each kind.
    """

    images: Tensor
    targets: Any

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        return Batch(self.images.to(device), targets_to(self.targets, device))


def targets_to(targets: Any, device: torch.device) -> Any:
    """Return `targets` with every tensor in it on `device`."""
    if isinstance(targets, Tensor):
        return targets.to(device)
    return move_data_to_device(targets, device)


@dataclass(frozen=True)
class BatchSpec:
    """Device, memory format and number of decoding threads of a loader's batches.

    Attributes:
        device: device of images and targets.
        channels_last: whether images are in NHWC memory.
        num_threads: threads that decode image files.
    """

    device: torch.device
    channels_last: bool = True
    num_threads: int = 1


class BatchFinalizer:
    """Conversion of uint8 images into the network's input."""

    def __init__(self, data: DataConfig, spec: BatchSpec) -> None:
        self._cutout = data.augment.cutout
        self._normalize = Normalizer(data.mean, data.std, data.channels, sides_of(data.image_size).width, spec.device)
        self._spec = spec

    def __call__(
        self, images: Tensor, targets: Any, cutout: Tensor | None = None, erasing: Tensor | None = None
    ) -> Batch:
        """Return the batch, with all of its tensors on the spec's device.

        Args:
            images: uint8 [B, C, H, W] on the spec's device.
            targets: see `Batch`, on any device.
            cutout: [2, B] int64, top and left of the square that is set to the mean; None without cutout.
            erasing: [4, B] int64, top, left, height and width of a rectangle that is set to the mean; None without.
        """
        normalized = self._normalize(images)
        if cutout is not None:
            normalized = cut_out(normalized, cutout, (self._cutout, self._cutout))
        if erasing is not None:
            normalized = cut_out(normalized, erasing[:2], tuple(erasing[2:]))
        memory_format = torch.channels_last if self._spec.channels_last else torch.contiguous_format
        return Batch(normalized.contiguous(memory_format=memory_format), targets_to(targets, self._spec.device))
