"""Images of a split that were listed before training: single files, or encoded images in one large file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

from convoy.data.images.bad_images import BadImageError
from convoy.data.images.decode import LazyImage, open_encoded, open_image
from convoy.data.images.decoded_cache import DecodedCache
from convoy.data.images.pixel_format import PixelFormat
from convoy.data.listing.image_files import ImageFiles
from convoy.data.located.located_targets import LocatedTargets
from convoy.data.reading.split_images import IndexedBatch, OpenBatch
from convoy.data.sampling.samplers import MicroBatch


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
