"""Single image files made ready for a network exactly as the val images of its data set are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convoy.config.schema import DataConfig
from convoy.data.augment import Normalizer
from convoy.data.check import FILE_SOURCES, IMAGE_CHANNELS, IMAGE_SIDES
from convoy.data.decode import BadImageError, open_image
from convoy.data.resize import fit_images, resize_and_center, with_channels


@dataclass(frozen=True)
class Preparation:
    """From an image file to what the network sees. It holds all that is needed for it.

    An image is decoded with `source_channels`, its shorter side brought to `shorter_side` and a square of
    `square_side` cut from the centre; the square is resized or padded to `image_size`, repeated or made gray to
    `channels`, divided by 255, and normalized. An image of a set in memory is of `square_side` already.

    Attributes:
        source_channels: 1 or 3.
        shorter_side, square_side: in pixels.
        fit: resize or pad.
        image_size: height and width of the network's input, in pixels.
        channels: of the network's input, 1 or 3.
        mean, std: of pixel values in 0..1: one number for all channels, or one a channel.
    """

    source_channels: int
    shorter_side: int
    square_side: int
    fit: str
    image_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, data: DataConfig) -> Preparation:
        """What the val split of `data` goes through."""
        if data.source in FILE_SOURCES:
            square, shorter, channels = data.image_size, data.eval_resize or data.image_size, data.channels
        else:
            square, channels = IMAGE_SIDES[data.source], IMAGE_CHANNELS[data.source]
            shorter = square
        return cls(
            channels, shorter, square, data.fit, data.image_size, data.channels, tuple(data.mean), tuple(data.std)
        )

    @classmethod
    def from_data(cls, values: Mapping[str, Any]) -> Preparation:
        """From what `as_data` gave.

        Raises:
            KeyError, TypeError: it is something else.
        """
        both = {name: tuple(values[name]) for name in ("mean", "std")}
        return cls(**{**values, **both})

    def as_data(self) -> dict[str, Any]:
        """Plain containers, for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def pixels(self, path: str) -> Tensor:
        """uint8 [channels, image_size, image_size] of an image file.

        Raises:
            BadImageError: it can't be decoded.
        """
        square = np.empty((self.square_side, self.square_side, self.source_channels), dtype=np.uint8)
        resize_and_center(open_image(path, self.source_channels), self.shorter_side, square)
        image = torch.from_numpy(square).permute(2, 0, 1)[None]
        return with_channels(fit_images(image, self.image_size, self.fit), self.channels)[0]

    def normalized(self, pixels: Tensor) -> Tensor:
        """float32 [B, C, S, S] in channels_last from uint8 [B, C, S, S]."""
        normalize = Normalizer(self.mean, self.std, self.channels, self.image_size, pixels.device)
        return normalize(pixels).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class PreparedFiles:
    """Some image files, ready for a network.

    Attributes:
        paths: of the files, in the order in which they were named.
        images: float32 [B, C, S, S], of those that could be decoded, in that order.
        reasons: what the decoder said of the others, by path.
    """

    paths: tuple[str, ...]
    images: Tensor
    reasons: Mapping[str, str]


def prepare_files(
    paths: Sequence[str], preparation: Preparation, batch_size: int, num_threads: int
) -> Iterator[PreparedFiles]:
    """The files in batches; threads decode the images of one batch side by side."""

    def read(path: str) -> Tensor | BadImageError:
        try:
            return preparation.pixels(path)
        except BadImageError as error:
            return error

    with ThreadPoolExecutor(num_threads, thread_name_prefix="convoy-decode") as pool:
        for start in range(0, len(paths), batch_size):
            names = tuple(paths[start : start + batch_size])
            found = list(pool.map(read, names))
            good = [value for value in found if isinstance(value, Tensor)]
            shape = (0, preparation.channels, preparation.image_size, preparation.image_size)
            stacked = torch.stack(good) if good else torch.empty(shape, dtype=torch.uint8)
            reasons = {error.path: error.reason for error in found if isinstance(error, BadImageError)}
            yield PreparedFiles(names, preparation.normalized(stacked), reasons)
