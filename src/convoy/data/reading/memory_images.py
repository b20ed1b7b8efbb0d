"""Single images of a split that is held in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from convoy.data.reading.split_images import IndexedBatch, OpenBatch
from convoy.data.sampling.samplers import MicroBatch
from convoy.data.sources.image_set import LabelledImages

if TYPE_CHECKING:
    from convoy.data.images.decode import LazyImage


class MemoryImages:
    """Images of a published set in memory, resized or padded for the network."""

    located = None

    def __init__(self, images: LabelledImages, split: str, samples: Tensor) -> None:
        """Store the images.

        Args:
            images: images of the split.
            split: split of the published set that they come from.
            samples: index of each image in that split, int64.
        """
        self.targets = images.labels
        self._images = images.images
        self._split = split
        self._samples = samples

    def __len__(self) -> int:
        return len(self.targets)

    def name(self, sample: int) -> str:
        """See `SplitImages`."""
        return f"{self._split}[{int(self._samples[sample])}]"

    def visit(self, batches: Iterable[MicroBatch]) -> Iterator[tuple[MicroBatch, OpenBatch]]:
        """See `SplitImages`."""
        for batch in batches:
            yield batch, IndexedBatch(batch, self._opener(batch), self.targets)

    def _opener(self, batch: MicroBatch) -> Callable[[int], LazyImage]:
        from convoy.data.images.decode import image_of_pixels  # not needed in training

        channels = self._images.shape[1]
        return lambda place: image_of_pixels(
            np.ascontiguousarray(self._images[batch.samples[place]].permute(1, 2, 0).numpy()), channels
        )
