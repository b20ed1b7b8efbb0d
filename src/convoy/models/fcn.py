"""Fully convolutional networks on VGG-16 (Long et al. 2014)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from convoy.config.faults import Fault, UserError
from convoy.models.image_padding import cropped
from convoy.models.residual import initialize

STAGES = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
"""Convolutions and filters per stage of VGG-16."""

STRIDES = (32, 16, 8)
PADDING = 100
"""Padding of the first convolution in the authors' networks."""
WIDTH = 64
"""Filters of the first stage of VGG-16."""


@dataclass(frozen=True)
class _Placed:
    """Maps and their position in the image.

    Attributes:
        maps: [B, C, h, w].
        stride: distance in pixels between two neighbouring values.
        first: pixel at the center of the first value.
    """

    maps: Tensor
    stride: int
    first: float


class Bilinear(nn.Module):
    """Bilinear interpolation by a transposed convolution with fixed weights, each channel by itself."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.register_buffer("weight", bilinear_window(stride)[None, None], persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        channels = maps.shape[1]
        weight = self.get_buffer("weight").to(maps.dtype).expand(channels, -1, -1, -1)
        return functional.conv_transpose2d(maps, weight, stride=self.stride, groups=channels)

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


class FCN(nn.Module):
    """FCN-32s, FCN-16s and FCN-8s of Long et al. 2014 (arXiv:1411.4038), section 4.

    The fully connected layers of VGG-16 are convolutions, a 1x1 convolution computes scores at stride 32, and skips add
    the scores of the fourth and third pooling. Transposed convolutions upsample: by 2, initialized to bilinear
    interpolation and learned; the last one is fixed to it. Layers that compute scores begin at zero (section 4.3).
    The network maps (N, in_channels, H, W) to logits (N, num_classes, H, W).

    Args:
        stride: 32, 16 or 8, of the finest scores.
        num_classes: number of classes.
        in_channels: channels of an image.
        padding: of the first convolution. 100 as in the authors' networks, whose 7x7 convolution has none; 1 to pad the
            7x7 convolution instead, which takes less time for small images.
        width: channels of the first stage, 64 in VGG-16; all layers are scaled with it.
        batch_norm: put a batch norm behind each convolution but those that compute scores; the paper has none.
        pretrained: load the weights of torchvision's VGG-16 into all layers that it has.

    Raises:
        UserError: another stride or padding; pretrained weights for other layers than VGG-16's, or that can't be read.
    """

    def __init__(
        self,
        stride: int,
        num_classes: int,
        in_channels: int = 3,
        *,
        padding: int = PADDING,
        width: int = WIDTH,
        batch_norm: bool = False,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        if stride not in STRIDES:
            raise UserError(Fault("model.stride", "no such network", "choose from 32, 16, 8", str(stride)))
        if padding not in (1, PADDING):
            raise UserError(Fault("model.padding", "must be 1 or 100", "write model.padding=1", str(padding)))
        if pretrained and (width != WIDTH or batch_norm):
            rule = "the weights are those of VGG-16 without batch norm"
            remedy = "write model.pretrained=false, or model.width=64 model.batch_norm=false"
            raise UserError(Fault("model.pretrained", rule, remedy, "true"))
        self.stages = nn.ModuleList()
        channels, hidden = in_channels, 4096 * width // WIDTH
        for count, of_vgg16 in STAGES:
            stage, filters = nn.Sequential(), of_vgg16 * width // WIDTH
            for _ in range(count):
                border = padding if not len(self.stages) and not len(stage) else 1
                stage += _convolution(channels, filters, 3, border, batch_norm)
                channels = filters
            stage.append(nn.MaxPool2d(2, ceil_mode=True))
            self.stages.append(stage)
        # The first value of the 7x7 convolution is three values away from the first value of its input, or none.
        self.shift = 1.0 - padding, 0 if padding == 1 else 3
        self.fc6 = _convolution(channels, hidden, 7, 3 - self.shift[1], batch_norm).append(nn.Dropout(0.5))
        self.fc7 = _convolution(hidden, hidden, 1, 0, batch_norm).append(nn.Dropout(0.5))
        self.scores = nn.ModuleList([nn.Conv2d(hidden, num_classes, 1)])
        self.upsampling = nn.ModuleList()
        for _, of_vgg16 in STAGES[3:1:-1][: STRIDES.index(stride)]:
            self.scores.append(nn.Conv2d(of_vgg16 * width // WIDTH, num_classes, 1))
            self.upsampling.append(nn.ConvTranspose2d(num_classes, num_classes, 4, stride=2, bias=False))
        self.last = Bilinear(stride)
        self.head_names = tuple(f"scores.{index}" for index in range(len(self.scores)))
        self._initialize()
        if pretrained:
            self._load_vgg16(in_channels)

    def forward(self, images: Tensor) -> Tensor:
        pooled: list[_Placed] = []
        first, stride, maps = self.shift[0], 1, images
        for stage in self.stages:
            maps = stage(maps)
            first, stride = first + stride / 2, stride * 2
            pooled.append(_Placed(maps, stride, first))
        maps = self.fc7(self.fc6(maps))
        scores = _Placed(self.scores[0](maps), stride, first + self.shift[1] * stride)
        for layer, score, skipped in zip(self.upsampling, self.scores[1:], pooled[-2::-1], strict=False):
            finer = _upsampled(scores, layer(scores.maps), 2)
            scores = _sum(finer, _Placed(score(skipped.maps), skipped.stride, skipped.first))
        pixels = _upsampled(scores, self.last(scores.maps), scores.stride)
        return cropped(pixels.maps, images, round(-pixels.first))

    def _initialize(self) -> None:
        initialize(self, fan="fan_in")
        for layer in self.scores:
            nn.init.zeros_(layer.get_parameter("weight"))
        for layer in self.upsampling:
            weight = layer.get_parameter("weight")
            with torch.no_grad():
                weight.zero_()
                weight[range(len(weight)), range(len(weight))] = bilinear_window(2)

    def _load_vgg16(self, in_channels: int) -> None:
        from convoy.models.building.weights import fit_channels, torchvision_weights

        state = list(torchvision_weights("vgg16", takes_file=False).values())
        parts = [*self.stages, self.fc6, self.fc7]
        layers = [module for part in parts for module in part.modules() if isinstance(module, nn.Conv2d)]
        with torch.no_grad():
            for layer, weight, bias in zip(layers, state[0::2], state[1::2], strict=False):
                fitted = fit_channels(weight, in_channels) if layer is layers[0] and in_channels != 3 else weight
                layer.weight.copy_(fitted.reshape(layer.weight.shape))
                assert layer.bias is not None
                layer.bias.copy_(bias)


def bilinear_window(stride: int) -> Tensor:
    """Return the window of a bilinear interpolation by an even factor, [2 * stride, 2 * stride]."""
    places = torch.arange(2 * stride, dtype=torch.float32)
    line = 1 - (places - (stride - 0.5)).abs() / stride
    return line[:, None] * line


def _upsampled(scores: _Placed, maps: Tensor, factor: int) -> _Placed:
    """Return maps with their position: value i of the scores is at i * factor + factor - 0.5 of the finer maps."""
    stride = scores.stride // factor
    return _Placed(maps, stride, scores.first - (factor - 0.5) * stride)


def _sum(finer: _Placed, skipped: _Placed) -> _Placed:
    """Return the sum of scores of the same stride over the area that both have."""
    offset = round((finer.first - skipped.first) / finer.stride)
    if offset >= 0:
        return _Placed(finer.maps + cropped(skipped.maps, finer.maps, offset), finer.stride, finer.first)
    return _Placed(cropped(finer.maps, skipped.maps, -offset) + skipped.maps, finer.stride, skipped.first)


def _convolution(inputs: int, outputs: int, window: int, padding: int, batch_norm: bool) -> nn.Sequential:
    layers = nn.Sequential(nn.Conv2d(inputs, outputs, window, padding=padding))
    if batch_norm:
        layers.append(nn.BatchNorm2d(outputs))
    return layers.append(nn.ReLU(inplace=True))
