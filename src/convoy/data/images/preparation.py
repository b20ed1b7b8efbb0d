"""Preparation of single image files for a network, equal to that of its data set's val images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convoy.config.data_schema import DataConfig
from convoy.config.image_size import ImageSize, Sides, sides_of
from convoy.data.augmentation.normalization import Normalizer
from convoy.data.degradation.bicubic import enlarge_bicubic
from convoy.data.images.bad_images import BadImageError
from convoy.data.images.decode import LazyImage, open_image
from convoy.data.images.pixel_format import Color, PixelFormat, ValueRange, color_of, range_of
from convoy.data.images.resize import fit_images, resize_and_center, with_channels
from convoy.data.located.located_targets import write_picture
from convoy.data.located.placement import Placement
from convoy.data.source_names import CROP_VIEW, FILE_SOURCES, IMAGE_CHANNELS, IMAGE_SIDES, WHOLE_VIEW


@dataclass(frozen=True)
class Preparation:
    """Steps from an image file to the network's input, with all of their settings.

    An image is decoded with `source_channels`, resized to `shorter_side`, and a central crop of `crop_size` is cut out
    (see `resize_and_center`). The crop is resized or padded to `image_size`, converted to `channels`, divided by 255,
    and normalized. Sizes are the side of a square in pixels, or (height, width). With other views, the whole image is
    resized to fit into `image_size`, with zeros around it (fit), or keeps its size (whole).

    Attributes:
        source_channels: channels of the decoded image.
        shorter_side: size after the resize, in pixels.
        crop_size: size of the central crop.
        fit: resize or pad.
        image_size: size of the network's input.
        channels: channels of the network's input.
        mean: mean of pixel values in 0..1: one number for all channels, or one per channel.
        std: standard deviation of pixel values in 0..1, likewise.
        background: color below transparent pixels; None to ignore transparency.
        value_range: see `PixelFormat`.
        view: crop, fit or whole.
        enlarge: factor by which whole images are enlarged, by MATLAB's bicubic filter.
    """

    source_channels: int
    shorter_side: int
    crop_size: ImageSize
    fit: str
    image_size: ImageSize
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    background: Color | None = None
    value_range: ValueRange | None = None
    view: str = CROP_VIEW
    enlarge: int = 1

    @classmethod
    def of(cls, data: DataConfig) -> Preparation:
        """Return the preparation of the val split of `data`."""
        size, channels = sides_of(data.image_size), data.channels
        crop, shorter = size, data.eval_resize or size.shorter
        if data.source not in FILE_SOURCES:
            shorter, channels = IMAGE_SIDES[data.source], IMAGE_CHANNELS[data.source]
            crop = sides_of(shorter)
        statistics = tuple(data.mean), tuple(data.std)
        stored = color_of(data.background), range_of(data.value_range)
        views = data.eval_view, data.degradation.scale if data.degradation.enlarge else 1
        return cls(channels, shorter, crop.value, data.fit, size.value, data.channels, *statistics, *stored, *views)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the network's input without the batch: channels, height and width."""
        return (self.channels, *sides_of(self.image_size))

    def model_sizes(self, num_outputs: int) -> dict[str, Any]:
        """Return the sizes of a model of these images: num_classes, in_channels and image_size."""
        return {"num_classes": num_outputs, "in_channels": self.channels, "image_size": self.image_size}

    @classmethod
    def from_data(cls, values: Mapping[str, Any]) -> Preparation:
        """Return the preparation described by a result of `as_data`.

        Raises:
            KeyError: if a setting is missing.
            TypeError: if a setting is unknown or has another type.
        """
        read: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**read)

    def as_data(self) -> dict[str, Any]:
        """Return the settings in plain containers, for JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def placement(self, width: int, height: int) -> Placement | None:
        """Return where an image is shown in the network's input; None for its central crop.

        Args:
            width: width of the image, in pixels.
            height: height of the image, in pixels.
        """
        if self.view == CROP_VIEW:
            return None
        whole = Sides(height, width)
        return Placement.fitting(width, height, whole if self.view == WHOLE_VIEW else sides_of(self.image_size))

    def open(self, path: str) -> LazyImage:
        """Open an image file.

        Raises:
            BadImageError: if the file can't be read.
        """
        return open_image(path, PixelFormat(self.source_channels, self.background, self.value_range))

    def pixels(self, picture: LazyImage) -> Tensor:
        """Return an image as uint8 [channels, H, W] in the size of the network's input.

        Raises:
            BadImageError: if it can't be decoded.
        """
        placement = self.placement(picture.width, picture.height)
        if placement is None:
            crop = np.empty((*sides_of(self.crop_size), self.source_channels), dtype=np.uint8)
            resize_and_center(picture, self.shorter_side, crop)
            image = torch.from_numpy(crop).permute(2, 0, 1)[None]
            return with_channels(fit_images(image, self.image_size, self.fit), self.channels)[0]
        size = placement.size if self.view == WHOLE_VIEW else sides_of(self.image_size)
        whole = np.empty((*size, self.channels), dtype=np.uint8)
        write_picture(picture, placement, whole)
        if self.enlarge > 1:
            whole = enlarge_bicubic(whole, self.enlarge)
        return torch.from_numpy(whole).permute(2, 0, 1)

    def normalized(self, pixels: Tensor) -> Tensor:
        """Return float32 [B, C, H, W] in channels_last from uint8 [B, C, H, W]."""
        normalize = Normalizer(self.mean, self.std, self.channels, sides_of(self.image_size).width, pixels.device)
        return normalize(pixels).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class PreparedFiles:
    """Batch of image files, ready for a network.

    Attributes:
        paths: paths of the files, in the given order.
        images: float32 [B, C, H, W], the decoded files in that order.
        sizes: their sizes.
        reasons: decoder message for each file that can't be decoded, by path.
    """

    paths: tuple[str, ...]
    images: Tensor
    sizes: tuple[Sides, ...]
    reasons: Mapping[str, str]


def prepare_files(
    paths: Sequence[str], preparation: Preparation, batch_size: int, num_threads: int
) -> Iterator[PreparedFiles]:
    """Yield the files in batches; threads decode the images of a batch in parallel.

    Images in their own size are batches of one.
    """
    if preparation.view == WHOLE_VIEW:
        batch_size = 1

    def read(path: str) -> tuple[Tensor, Sides] | BadImageError:
        try:
            picture = preparation.open(path)
            return preparation.pixels(picture), Sides(picture.height, picture.width)
        except BadImageError as error:
            return error

    with ThreadPoolExecutor(num_threads, thread_name_prefix="convoy-decode") as pool:
        for start in range(0, len(paths), batch_size):
            names = tuple(paths[start : start + batch_size])
            decoded = list(pool.map(read, names))
            good = [value for value in decoded if not isinstance(value, BadImageError)]
            shape = (0, *preparation.shape)
            stacked = torch.stack([pixels for pixels, _ in good]) if good else torch.empty(shape, dtype=torch.uint8)
            reasons = {error.path: error.reason for error in decoded if isinstance(error, BadImageError)}
            yield PreparedFiles(names, preparation.normalized(stacked), tuple(size for _, size in good), reasons)
