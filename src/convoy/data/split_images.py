"""Images and targets of a split that are read while training runs: single files, shards, or a data set of the user."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from convoy.data.decode import BadImageError, LazyImage, image_of_pixels, open_encoded, open_image
from convoy.data.decoded_cache import DecodedCache
from convoy.data.image_files import ImageFiles
from convoy.data.located.located_targets import LocatedTargets
from convoy.data.pixel_format import PixelFormat
from convoy.data.sampling import MicroBatch
from convoy.data.sources.image_set import LabelledImages


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


class FileImages:
    """Images that were listed before training: files, or encoded images in one large file."""

    def __init__(
        self,
        files: ImageFiles,
        targets: Tensor | None,
        form: PixelFormat,
        located: LocatedTargets | None = None,
        cache: DecodedCache | None = None,
    ) -> None:
        """Store the images and their targets.

        Args:
            files: images of the split.
            targets: one per image, as `convoy.data.targets` describes for their kind; None with `located`.
            form: format of the pixels.
            located: targets that move with the pixels of their image.
            cache: memory for decoded images; None to decode them each time.
        """
        self.targets = targets
        self.located = located
        self._cache = cache
        self._files = files
        self._format = form

    def __len__(self) -> int:
        return len(self._files)

    def name(self, sample: int) -> str:
        """See `SplitImages`."""
        return self._files.paths[sample]

    def visit(self, batches: Iterable[MicroBatch]) -> Iterator[tuple[MicroBatch, OpenBatch]]:
        """See `SplitImages`."""
        for batch in batches:
            yield batch, IndexedBatch(batch, self._opener(batch), self.targets)

    def _opener(self, batch: MicroBatch) -> Callable[[int], LazyImage]:
        return lambda place: self._open(int(batch.samples[place]))

    def _open(self, sample: int) -> LazyImage:
        if self._cache is None:
            return self._read(sample)
        return self._cache.image(self._files.paths[sample], lambda: self._read(sample))

    def _read(self, sample: int) -> LazyImage:
        files = self._files
        path = files.paths[sample]
        if files.contents is None or files.rows is None:
            picture = open_image(path, self._format)
        else:
            picture = open_encoded(path, bytearray(files.contents(files.rows[sample])), self._format)
        if files.boxes is None:
            return picture
        left, top, width, height = files.boxes[sample]
        width, height = min(width, picture.width - left), min(height, picture.height - top)
        if width < 1 or height < 1:
            raise BadImageError(path, f"is smaller than the box of an object, which begins at {left},{top}")
        return picture.part(left, top, width, height)


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
        channels = self._images.shape[1]
        return lambda place: image_of_pixels(
            np.ascontiguousarray(self._images[batch.samples[place]].permute(1, 2, 0).numpy()), channels
        )
