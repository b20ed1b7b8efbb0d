"""U-Net (Ronneberger et al. 2015)."""

from __future__ import annotations

from itertools import count

import torch
from torch import Tensor, nn
from torch.nn import functional

from convoy.config.faults import Fault, UserError
from convoy.models.image_padding import cropped, padded
from convoy.models.residual import initialize

PADDINGS = ("same", "valid")


class UNet(nn.Module):
    """U-Net of Ronneberger et al. 2015 (arXiv:1505.04597), section 2.

    Each level has two 3x3 convolutions; 2x2 max pooling halves the resolution and the channels double. 2x2 transposed
    convolutions return to it, and the maps of the same level are concatenated. The network maps (N, in_channels, H, W)
    to logits (N, num_classes, H, W).

    Args:
        num_classes: number of classes.
        in_channels: channels of an image.
        width: channels of the first level; 64 in the paper.
        depth: number of poolings; 4 in the paper.
        padding: same, or valid for the paper's unpadded convolutions, which need mirrored images around the image.
        batch_norm: normalize before each ReLU; the paper has no normalization.
        dropout: share of the values that are dropped at the end of the last two levels of the contracting path.

    Raises:
        UserError: there is no such padding.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        width: int = 64,
        depth: int = 4,
        padding: str = "same",
        batch_norm: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if padding not in PADDINGS:
            raise UserError(Fault("model.padding", "no such padding", f"choose from {', '.join(PADDINGS)}", padding))
        self.is_valid = padding == "valid"
        self.depth = depth
        self.pool = nn.MaxPool2d(2)
        self.encoder, self.upsampling, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        border = 0 if self.is_valid else 1
        channels = in_channels
        for level in range(depth + 1):
            stage = _convolutions(channels, width << level, border, batch_norm=batch_norm)
            if dropout and level >= depth - 1:
                stage.append(nn.Dropout(dropout))
            self.encoder.append(stage)
            channels = width << level
        for level in reversed(range(depth)):
            self.upsampling.append(nn.ConvTranspose2d(channels, width << level, 2, stride=2))
            self.decoder.append(_convolutions(channels, width << level, border, batch_norm=batch_norm))
            channels = width << level
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        initialize(self, fan="fan_in")

    def forward(self, images: Tensor) -> Tensor:
        maps = self._surrounded(images) if self.is_valid else padded(images, 1 << self.depth)
        skipped = []
        for level, stage in enumerate(self.encoder):
            maps = stage(self.pool(maps) if level else maps)
            skipped.append(maps)
        for upsample, stage, left in zip(self.upsampling, self.decoder, skipped[-2::-1], strict=True):
            finer = upsample(maps)
            maps = stage(torch.cat([cropped(left, finer, (left.shape[-1] - finer.shape[-1]) // 2), finer], 1))
        return cropped(self.classifier(maps), images)

    def _surrounded(self, images: Tensor) -> Tensor:
        """Return images that are continued by mirroring as far as unpadded convolutions need it."""
        margins: list[int] = []
        for side in (images.shape[-1], images.shape[-2]):
            inputs, outputs = _valid_sides(side, self.depth)
            before = (inputs - outputs) // 2
            margins += [before, inputs - side - before]
        return functional.pad(images, margins, mode="reflect")


def _valid_sides(side: int, depth: int) -> tuple[int, int]:
    """Return sides of input and output of unpadded convolutions, the smallest whose output is at least `side`.

    Each level takes 4 pixels from the side before its pooling and 4 after its upsampling.
    """
    for lowest in count(6):
        inputs, outputs = lowest, lowest - 4
        for _ in range(depth):
            inputs, outputs = 2 * inputs + 4, 2 * outputs - 4
        if outputs >= side:
            return inputs, outputs
    raise AssertionError


def _convolutions(channels: int, filters: int, border: int, *, batch_norm: bool) -> nn.Sequential:
    """Return two 3x3 convolutions, each with an optional batch norm and ReLU."""
    layers = nn.Sequential()
    for inputs in (channels, filters):
        layers.append(nn.Conv2d(inputs, filters, 3, padding=border, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(filters))
        layers.append(nn.ReLU(inplace=True))
    return layers
