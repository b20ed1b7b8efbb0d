"""SegNet (Badrinarayanan et al. 2015)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from convoy.models.fcn import STAGES
from convoy.models.residual import initialize


class SegNet(nn.Module):
    """SegNet of Badrinarayanan et al. 2015 (arXiv:1511.00561), section 3.

    The encoder has the 13 convolutions of VGG-16, each with batch norm. The decoder mirrors it: max unpooling puts each
    value where the encoder's pooling took it from, and convolutions fill the gaps. The network maps
    (N, in_channels, H, W) to logits (N, num_classes, H, W).

    Args:
        num_classes: number of classes.
        in_channels: channels of an image.
        pretrained: load the convolutions and norms of torchvision's vgg16_bn into the encoder.

    Raises:
        UserError: the weights can't be loaded.
    """

    def __init__(self, num_classes: int, in_channels: int = 3, pretrained: bool = False) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        channels = in_channels
        for count, filters in STAGES:
            self.encoder.append(_stage([channels, *[filters] * count]))
            channels = filters
        for index, (count, filters) in reversed(list(enumerate(STAGES))):
            narrower = [STAGES[index - 1][1]] if index else []
            self.decoder.append(_stage([filters] * count + narrower))
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)
        self.classifier = nn.Conv2d(STAGES[0][1], num_classes, 3, padding=1)
        initialize(self)
        if pretrained:
            self._load_vgg16(in_channels)

    def forward(self, images: Tensor) -> Tensor:
        maps, places = images, []
        for stage in self.encoder:
            maps = stage(maps)
            size = maps.shape[-2:]
            maps, indices = self.pool(maps)
            places.append((indices, size))
        for stage, (indices, size) in zip(self.decoder, reversed(places), strict=True):
            maps = stage(self.unpool(maps, indices, list(size)))
        logits: Tensor = self.classifier(maps)
        return logits

    def _load_vgg16(self, in_channels: int) -> None:
        from convoy.models.building.weights import fit_channels, torchvision_weights

        state = torchvision_weights("vgg16_bn", takes_file=False)
        there = [value for name, value in state.items() if name.startswith("features.")]
        there[0] = fit_channels(there[0], in_channels) if in_channels != 3 else there[0]
        with torch.no_grad():
            for own, value in zip(self.encoder.state_dict().values(), there, strict=True):
                own.copy_(value)


def _stage(channels: list[int]) -> nn.Sequential:
    """Return 3x3 convolutions with batch norm and ReLU between the given numbers of channels."""
    layers = nn.Sequential()
    for inputs, filters in pairwise(channels):
        layers.append(nn.Conv2d(inputs, filters, 3, padding=1))
        layers.append(nn.BatchNorm2d(filters))
        layers.append(nn.ReLU(inplace=True))
    return layers
