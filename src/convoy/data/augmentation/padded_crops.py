"""Padded crops and flips of whole batches on the device.

Images are stored in NHWC memory, so that one gather copies whole rows of all channels and the result is channels_last.
With flips, a mirrored copy is stored beside each image, which makes the flip part of the same gather.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convoy.config.augment_schema import AugmentConfig
from convoy.config.image_size import ImageSize, Sides, sides_of
from convoy.data.sampling.randomness import Stream, as_coin, as_integers, random_bits


@dataclass(frozen=True)
class Draws:
    """Random parameters of B samples.

    Attributes:
        window: [2, B] int64, first row and column of the window within the padded image.
        mirrored: [B] bool.
        cutout: [2, B] int64, first row and column of the square, which may begin or end outside the image; None
            without cutout.
    """

    window: Tensor
    mirrored: Tensor
    cutout: Tensor | None


_CROP = (Stream.CROP_TOP, Stream.CROP_LEFT)
_CUTOUT = (Stream.CUTOUT_TOP, Stream.CUTOUT_LEFT)


def draw(augment: AugmentConfig, image_size: ImageSize, seed: int, epoch: int, samples: Tensor) -> Draws:
    """Draw parameters for `samples`, [B] int64; all windows and all centers of the cutout are equally likely.

    Only numbers that the augmentation uses are drawn. The others are constants, so that each stream stays the same.
    """

    def bits(streams: Sequence[int]) -> Tensor:
        return random_bits(seed, epoch, samples, streams)

    def centers() -> Tensor:
        pairs = zip(bits(_CUTOUT), sides_of(image_size), strict=True)
        return torch.stack([as_integers(one, side) for one, side in pairs])

    crop, flip, cutout = augment.pad_crop, augment.flip, augment.cutout
    return Draws(
        window=as_integers(bits(_CROP), 2 * crop + 1) if crop else samples.new_zeros(2, len(samples)),
        mirrored=as_coin(bits([Stream.MIRROR])[0]) if flip else torch.zeros_like(samples, dtype=torch.bool),
        cutout=centers() - cutout // 2 if cutout else None,
    )


@dataclass(frozen=True)
class WindowLayout:
    """Positions of windows in the memory of a `WindowSource`, which can be computed without it.

    Attributes:
        size: size of a window.
        channels: number of channels.
        padding: width of the border, in pixels.
        mirror: whether each image is beside its mirror image.
    """

    size: ImageSize
    channels: int
    padding: int = 0
    mirror: bool = False

    def starts(self, images: Tensor, draws: Draws) -> Tensor:
        """Return the positions in `WindowSource.pixels` at which windows begin.

        Args:
            images: [B] int64, indices of the images.
            draws: random parameters; the window is one of the padded image, or of its mirror image.

        Returns:
            int64 [B], for `WindowSource.cut`.
        """
        rows, columns = (side + 2 * self.padding for side in sides_of(self.size))
        which = images * 2 + draws.mirrored if self.mirror else images
        return (which * rows + draws.window[0]) * (columns * self.channels) + draws.window[1] * self.channels


@dataclass(frozen=True)
class WindowSource:
    """Images from which windows are cut: padded with zeros, each beside its mirror image if flips are on.

    Attributes:
        pixels: uint8 [n, 1 or 2, H + 2 padding, (W + 2 padding) * C], contiguous.
        size: height and width of a window.
        channels: number of channels, C.
    """

    pixels: Tensor
    size: Sides
    channels: int

    @classmethod
    def of(cls, images: Tensor, padding: int = 0, mirror: bool = False) -> WindowSource:
        """Return the source of uint8 images [n, C, H, W]."""
        num_images, channels, height, width = images.shape
        rows, columns = height + 2 * padding, width + 2 * padding
        # Written once; padding, mirroring and stacking would each copy the whole set.
        pixels = images.new_zeros(num_images, 1 + mirror, rows, columns, channels)
        inner = pixels[:, :, padding : padding + height, padding : padding + width]
        inner[:, 0] = images.permute(0, 2, 3, 1)
        if mirror:
            inner[:, 1] = images.permute(0, 2, 3, 1).flip(2)
        return cls(pixels.flatten(3), Sides(height, width), channels)

    def to(self, device: torch.device) -> WindowSource:
        """Return the source on `device`."""
        return WindowSource(self.pixels.to(device, non_blocking=True), self.size, self.channels)

    def cut(self, starts: Tensor) -> Tensor:
        """Return the windows that begin at `starts`, uint8 [B, C, H, W] in channels_last, by one gather.

        A strided view lists all possible windows in the same memory. `index_select` copies whole rows of them, 4 to 9
        times faster than indexing, which copies single values.
        """
        row = self.pixels.shape[-1]
        height, width = self.size
        window_row = width * self.channels
        num_windows = self.pixels.numel() - (height - 1) * row - window_row + 1
        windows = self.pixels.as_strided((num_windows, height, window_row), (1, row, 1))
        cut = torch.index_select(windows, 0, starts)
        return cut.view(-1, height, width, self.channels).permute(0, 3, 1, 2)
