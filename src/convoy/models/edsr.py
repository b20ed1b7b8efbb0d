"""EDSR, residual networks without batch norm for super-resolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn

RGB_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean of the pixels of DIV2K in 0..1, which the authors' code subtracts."""


class EDSR(nn.Module):
    """EDSR of Lim et al. 2017 (arXiv:1707.02921): residual blocks at low resolution, then pixel shuffles.

    The network maps images [N, in_channels, H, W] in 0..1 to [N, out_channels, scale H, scale W].

    Args:
        in_channels: channels of an image.
        out_channels: channels of the result.
        scale: enlargement of height and width; 1 restores images of the same size.
        blocks: number of residual blocks: 16 for the paper's baseline, 32 for EDSR.
        width: filters: 64 for the baseline, 256 for EDSR.
        residual_scaling: factor of each residual branch: 1 for the baseline, 0.1 for EDSR.
    """

    mean: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale: int,
        blocks: int = 16,
        width: int = 64,
        residual_scaling: float = 1.0,
    ) -> None:
        super().__init__()
        # Not in the state dict: it is a constant.
        self.register_buffer("mean", _mean_of(in_channels), persistent=False)
        self.register_buffer("mean_out", _mean_of(out_channels), persistent=False)
        self.head = _conv(in_channels, width)
        self.body = nn.Sequential(*(ResidualBlock(width, residual_scaling) for _ in range(blocks)), _conv(width, width))
        self.upsampling = nn.Sequential()
        for factor in _factors(scale):
            self.upsampling.extend([_conv(width, width * factor**2), nn.PixelShuffle(factor)])
        self.tail = _conv(width, out_channels)

    mean_out: Tensor

    def forward(self, images: Tensor) -> Tensor:
        features = self.head(images - self.mean)
        enlarged: Tensor = self.tail(self.upsampling(features + self.body(features)))
        return enlarged + self.mean_out


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a ReLU between them, scaled and added to the input."""

    def __init__(self, width: int, residual_scaling: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(_conv(width, width), nn.ReLU(inplace=True), _conv(width, width))
        self.residual_scaling = residual_scaling

    def forward(self, inputs: Tensor) -> Tensor:
        residual: Tensor = self.layers(inputs)
        return inputs + (residual if self.residual_scaling == 1 else self.residual_scaling * residual)


def _conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def _mean_of(channels: int) -> Tensor:
    mean = torch.tensor(RGB_MEAN)
    return (mean if channels == 3 else mean.mean().repeat(channels))[:, None, None]


def _factors(scale: int) -> list[int]:
    """Return the factors of the pixel shuffles: powers of 2 are reached in steps of 2."""
    if scale & (scale - 1) == 0:
        return [2] * (scale.bit_length() - 1)
    return [scale]
