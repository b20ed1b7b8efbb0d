"""Memory for decoded images that are read more than once."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from convoy.data.images.decode import LazyImage, image_of_pixels

MOST_BYTES = 1 << 30
"""Memory for decoded images, per process."""


class DecodedCache:
    """Decoded images that stay in memory until `most_bytes` are used; the others are decoded each time."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._images: dict[str, LazyImage] = {}
        self._free = most_bytes
        self._lock = Lock()

    def image(self, name: str, open_image: Callable[[], LazyImage]) -> LazyImage:
        """Return an image; `open_image` opens it if it is not in memory. Can be called in any thread.

        Raises:
            BadImageError: if the image can't be read.
        """
        if (found := self._images.get(name)) is not None:
            return found
        picture = open_image()
        if 3 * picture.width * picture.height > self._free:
            return picture
        pixels = picture.pixels(picture.height, 1)
        decoded = image_of_pixels(pixels, pixels.shape[2], picture.mode)
        with self._lock:
            if name not in self._images and pixels.nbytes <= self._free:
                self._images[name] = decoded
                self._free -= pixels.nbytes
        return decoded
