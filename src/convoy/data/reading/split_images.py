"""Images and targets of a split that are read while training runs: single files, shards, or a data set of the user."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from convoy.data.sampling.samplers import MicroBatch

if TYPE_CHECKING:
    from convoy.data.images.decode import LazyImage
    from convoy.data.located.located_targets import LocatedTargets


class OpenBatch(Protocol):
    """Images and targets of one batch, ready to be read."""

    def image(self, place: int) -> LazyImage:
        """Open the image at a position in the batch. Can be called in any thread.

        Raises:
            BadImageError: if the image can't be read.
        """
        ...

    def targets(self, places: Tensor) -> Any:
        """Return the targets of the images at the positions `places`, int64 [B], which must have been opened."""
        ...


class SplitImages(Protocol):
    """Images and targets of a split."""

    def __len__(self) -> int: ...

    @property
    def targets(self) -> Tensor | None:
        """Targets of all images, or None if they are only known after reading the images."""
        ...

    @property
    def located(self) -> LocatedTargets | None:
        """Targets that move with the pixels of their image; None if the targets describe whole images."""
        ...

    def name(self, sample: int) -> str:
        """Return the name of an image for messages: its path, or its position in the data set."""
        ...

    def visit(self, batches: Iterable[MicroBatch]) -> Iterator[tuple[MicroBatch, OpenBatch]]:
        """Yield each batch with its reader, which stays valid afterwards."""
        ...


@dataclass(frozen=True)
class IndexedBatch:
    """Batch whose targets are known in advance.

    Attributes:
        batch: samples of the batch.
        image: function that opens the image at a position, see `OpenBatch`.
        split_targets: targets of all samples of the split; None if the loader reads them.
    """

    batch: MicroBatch
    image: Callable[[int], LazyImage]
    split_targets: Tensor | None

    def targets(self, places: Tensor) -> Tensor:
        """See `OpenBatch`."""
        assert self.split_targets is not None, "the loader writes the targets"
        return self.split_targets[self.batch.samples[places]]
