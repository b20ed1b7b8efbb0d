"""Images and targets of a split that are listed before training. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


class ImageBlocks(Protocol):
    """Blocks of consecutive rows of encoded images, each of which is read as a whole.

    Attributes:
        sizes: number of rows in each block.
        ahead: number of blocks to read before their first use.
        largest_bytes: memory of the largest block.
    """

    sizes: Sequence[int]
    ahead: int
    largest_bytes: int

    def read(self, block: int) -> Callable[[int], bytes]:
        """Read a block, in any thread, and return the function that returns the bytes of an image given its row.

        Raises:
            UserError: if the block can't be read.
        """
        ...


@dataclass(frozen=True)
class ImageFiles:
    """Images of one split: files, or encoded images in one large file, or in blocks.

    Attributes:
        paths: image files, or names of the images for messages if `contents` or `blocks` is given; those of a folder
            are sorted by class and path.
        targets: target per image: an index into the class names, or a tuple with one number per label or value.
        notes: facts that a user may not expect, one sentence each.
        groups: group per image, which stays on one side of a held-out split; None for no groups.
        contents: function that returns the bytes of an image given its row, called in several threads; None if `paths`
            are files.
        rows: row per image for `contents`, or for `blocks` in ascending order.
        boxes: part of the file that is the image, as left, top, width and height in pixels; None for whole files.
        blocks: blocks of the images; None if images are read one by one.
    """

    paths: tuple[str, ...]
    targets: tuple[Any, ...]
    notes: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    contents: Callable[[int], bytes] | None = field(default=None, compare=False)
    rows: tuple[int, ...] | None = None
    boxes: tuple[tuple[int, int, int, int], ...] | None = None
    blocks: ImageBlocks | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.paths)

    def repeated(self, times: int) -> ImageFiles:
        """Return the images several times, one round after the other."""
        return self if times == 1 else self.at(list(range(len(self))) * times)

    def at(self, samples: Sequence[int]) -> ImageFiles:
        """Return the images at the indices `samples`."""
        return ImageFiles(
            tuple(self.paths[i] for i in samples),
            tuple(self.targets[i] for i in samples),
            groups=None if self.groups is None else tuple(self.groups[i] for i in samples),
            contents=self.contents,
            rows=None if self.rows is None else tuple(self.rows[i] for i in samples),
            boxes=None if self.boxes is None else tuple(self.boxes[i] for i in samples),
            blocks=self.blocks,
        )
