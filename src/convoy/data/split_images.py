"""Where the images of a split come from: files of their own, or shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from convoy.data.decode import Picture, open_picture
from convoy.data.folders import ImageFiles
from convoy.data.sampling import MicroBatch

OpenPlace = Callable[[int], Picture]
"""Opens the image of a place in a batch, in any thread. May raise BadImageError."""


class Pictures(Protocol):
    """The images of a split.

    Attributes:
        labels: [n] int64.
    """

    labels: Tensor

    def visit(self, batches: Iterable[MicroBatch]) -> Iterator[tuple[MicroBatch, OpenPlace]]:
        """Each batch with what opens its images, soon after it is asked for; may then be called at any time."""
        ...


class FilePictures:
    """Images that are files of their own."""

    def __init__(self, files: ImageFiles, channels: int) -> None:
        """`channels`: 1 for gray, 3 for RGB."""
        self.labels = torch.tensor(files.labels)
        self._paths = files.paths
        self._channels = channels

    def visit(self, batches: Iterable[MicroBatch]) -> Iterator[tuple[MicroBatch, OpenPlace]]:
        """See `Pictures`."""
        for batch in batches:
            yield batch, self._opener(batch)

    def _opener(self, batch: MicroBatch) -> OpenPlace:
        return lambda place: open_picture(self._paths[int(batch.samples[place])], self._channels)
