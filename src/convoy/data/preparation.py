"""Preparation of single image files for a network, equal to that of its data set's val images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convoy.config.schema import DataConfig
from convoy.data.augmentation.normalization import Normalizer
from convoy.data.decode import BadImageError, open_image
from convoy.data.resize import fit_images, resize_and_center, with_channels
from convoy.data.source_names import FILE_SOURCES, IMAGE_CHANNELS, IMAGE_SIDES


@dataclass(frozen=True)
class Preparation:
    """Steps from an image file to the network's input, with all of their settings.

    An image is decoded with `source_channels`, resized to `shorter_side`, and a central square of `square_side` is cut
    out. The square is resized or padded to `image_size`, converted to `channels`, divided by 255, and normalized.

    Attributes:
        source_channels: channels of the decoded image, 1 or 3.
        shorter_side: size after the resize, in pixels.
        square_side: side of the central square, in pixels.
        fit: resize or pad.
        image_size: height and width of the network's input, in pixels.
        channels: channels of the network's input, 1 or 3.
        mean: mean of pixel values in 0..1: one number for all channels, or one per channel.
        std: standard deviation of pixel values in 0..1, likewise.
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
        """Return the preparation of the val split of `data`."""
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
        """Return the preparation described by a result of `as_data`.

        Raises:
            KeyError: if a setting is missing.
            TypeError: if a setting is unknown or has another type.
        """
        both = {name: tuple(values[name]) for name in ("mean", "std")}
        return cls(**{**values, **both})

    def as_data(self) -> dict[str, Any]:
        """Return the settings in plain containers, for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def pixels(self, path: str) -> Tensor:
        """Return an image file as uint8 [channels, image_size, image_size].

        Raises:
            BadImageError: if the file can't be decoded.
        """
        square = np.empty((self.square_side, self.square_side, self.source_channels), dtype=np.uint8)
        resize_and_center(open_image(path, self.source_channels), self.shorter_side, square)
        image = torch.from_numpy(square).permute(2, 0, 1)[None]
        return with_channels(fit_images(image, self.image_size, self.fit), self.channels)[0]

    def normalized(self, pixels: Tensor) -> Tensor:
        """Return float32 [B, C, S, S] in channels_last from uint8 [B, C, S, S]."""
        normalize = Normalizer(self.mean, self.std, self.channels, self.image_size, pixels.device)
        return normalize(pixels).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class PreparedFiles:
    """Batch of image files, ready for a network.

    Attributes:
        paths: paths of the files, in the given order.
        images: float32 [B, C, S, S], the decoded files in that order.
        reasons: decoder message for each file that can't be decoded, by path.
    """

    paths: tuple[str, ...]
    images: Tensor
    reasons: Mapping[str, str]


def prepare_files(
    paths: Sequence[str], preparation: Preparation, batch_size: int, num_threads: int
) -> Iterator[PreparedFiles]:
    """Yield the files in batches; threads decode the images of a batch in parallel."""

    def read(path: str) -> Tensor | BadImageError:
        try:
            return preparation.pixels(path)
        except BadImageError as error:
            return error

    with ThreadPoolExecutor(num_threads, thread_name_prefix="convoy-decode") as pool:
        for start in range(0, len(paths), batch_size):
            names = tuple(paths[start : start + batch_size])
            decoded = list(pool.map(read, names))
            good = [value for value in decoded if isinstance(value, Tensor)]
            shape = (0, preparation.channels, preparation.image_size, preparation.image_size)
            stacked = torch.stack(good) if good else torch.empty(shape, dtype=torch.uint8)
            reasons = {error.path: error.reason for error in decoded if isinstance(error, BadImageError)}
            yield PreparedFiles(names, preparation.normalized(stacked), reasons)
