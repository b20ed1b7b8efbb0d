"""Where the images of a split come from: files of their own, or shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from torch import Tensor

from convoy.data.decode import Picture, open_picture
from convoy.data.sampling import MicroBatch

OpenPlace = Callable[[int], Picture]
"""Opens the image of a place in a batch, in any thread. May raise BadImageError."""


class Pictures(Protocol):
    """The images of a split.

    Attributes:
        targets: of all samples, as `convoy.data.targets` describes for their kind.
    """

    targets: Tensor

    def visit(self, batches: Iterable[MicroBatch]) -> Iterator[tuple[MicroBatch, OpenPlace]]:
        """Each batch with what opens its images, soon after it is asked for; may then be called at any time."""
        ...


class FilePictures:
    """Images that are files of their own."""

    def __init__(self, paths: Sequence[str], targets: Tensor, channels: int) -> None:
        """
        Args:
            paths: image files.
            targets: one per file, see `Pictures`.
            channels: 1 for gray, 3 for RGB.
        """
        self.targets = targets
        self._paths = paths
        self._channels = channels

    def visit(self, batches: Iterable[MicroBatch]) -> Iterator[tuple[MicroBatch, OpenPlace]]:
        """See `Pictures`."""
        for batch in batches:
            yield batch, self._opener(batch)

    def _opener(self, batch: MicroBatch) -> OpenPlace:
        return lambda place: open_picture(self._paths[int(batch.samples[place])], self._channels)
