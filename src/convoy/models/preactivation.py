"""Residual networks for CIFAR with norm and activation before the convolution, narrow or wide."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional

from convoy.config.faults import Fault, UserError
from convoy.models.residual import WIDTHS, initialize


class PreactivationResNet(nn.Module):
    """Networks for CIFAR of He et al. 2016 (arXiv:1603.05027) and Zagoruyko & Komodakis 2016 (arXiv:1605.07146).

    A 3x3 convolution with 16 filters, three stages of blocks, batch norm, ReLU, global average pooling and one
    fully connected layer. The shortcut of a block is the identity, or a 1x1 convolution of the activated input if
    the block changes the shape. The network maps (N, in_channels, H, W) to logits (N, num_classes).

    Args:
        blocks: blocks per stage. ResNet-110 has 18 (6 x 18 + 2 layers), ResNet-164 has 18 bottlenecks (9 x 18 + 2),
            and Wide ResNet-28 has 4 (6 x 4 + 4, with the convolutions of the shortcuts).
        num_classes: number of logits.
        in_channels: channels of an image.
        width: factor of the 16, 32 and 64 filters of the stages, k of WRN-28-k.
        bottleneck: use blocks of a 1x1, a 3x3 and a 1x1 convolution, the last with four times the filters, instead
            of blocks of two 3x3 convolutions.
        dropout: probability of the dropout between the two 3x3 convolutions of a block.

    Raises:
        UserError: if a value is out of its range.
    """

    def __init__(
        self,
        blocks: int,
        num_classes: int,
        in_channels: int = 3,
        width: int = 1,
        bottleneck: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for name, count in (("blocks", blocks), ("width", width)):
            if count < 1:
                raise UserError(Fault(f"model.{name}", "must be at least 1", "", str(count)))
        if not 0 <= dropout < 1:
            raise UserError(Fault("model.dropout", "must be at least 0 and below 1", "", str(dropout)))
        self.conv = nn.Conv2d(in_channels, WIDTHS[0], 3, padding=1, bias=False)
        self.stages = nn.Sequential()
        channels = WIDTHS[0]
        for stage, filters in enumerate(WIDTHS):
            sequence = nn.Sequential()
            for index in range(blocks):
                stride = 2 if stage and not index else 1
                block = PreactivationBlock(channels, filters * width, stride, bottleneck=bottleneck, dropout=dropout)
                sequence.append(block)
                channels = block.out_channels
            self.stages.append(sequence)
        self.bn = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, num_classes)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.bn(self.stages(self.conv(images)))
        logits: Tensor = self.fc(functional.relu(maps, inplace=True).mean((2, 3)))
        return logits


class PreactivationBlock(nn.Module):
    """Two or three layers of batch norm, ReLU and convolution with a shortcut: (N, C, H, W) to (N, O, H/S, W/S)."""

    def __init__(self, in_channels: int, filters: int, stride: int, *, bottleneck: bool, dropout: float) -> None:
        super().__init__()
        self.out_channels = filters * 4 if bottleneck else filters
        # Not in place: the shortcut reads the same input.
        self.first = nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU())
        convolutions = [(in_channels, filters, 3), (filters, filters, 3)]
        if bottleneck:
            convolutions = [(in_channels, filters, 1), (filters, filters, 3), (filters, self.out_channels, 1)]
        strided = 1 if bottleneck else 0
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for index, (channels, outputs, size) in enumerate(convolutions):
            if index:
                layers[f"bn{index + 1}"] = nn.BatchNorm2d(channels)
                layers[f"relu{index + 1}"] = nn.ReLU(inplace=True)
            if index == 1 and dropout:
                layers["dropout"] = nn.Dropout(dropout)
            step = stride if index == strided else 1
            layers[f"conv{index + 1}"] = nn.Conv2d(channels, outputs, size, step, padding=size // 2, bias=False)
        self.rest = nn.Sequential(layers)
        changes = stride != 1 or in_channels != self.out_channels
        self.shortcut = nn.Conv2d(in_channels, self.out_channels, 1, stride, bias=False) if changes else None

    def forward(self, inputs: Tensor) -> Tensor:
        activated = self.first(inputs)
        around = inputs if self.shortcut is None else self.shortcut(activated)
        outputs: Tensor = self.rest(activated) + around
        return outputs
