"""Networks for key points: they return one heatmap per point."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from convoy.config.faults import Fault, UserError, did_you_mean, one_line
from convoy.models.libraries import with_weights

DECONVOLUTION_CHANNELS = 256


class SimpleBaseline(nn.Module):
    """Backbone, deconvolutions and one convolution (Xiao et al. 2018, "Simple Baselines for Human Pose Estimation").

    Args:
        num_classes: number of points.
        in_channels: channels of an image.
        backbone: any network of timm that returns feature maps, such as resnet50 or hrnet_w18_small_v2.
        deconvolutions: number of deconvolutions, each of which doubles the resolution. With the usual 3, the heatmaps
            have a fourth of the image's sides.
        channels: channels of each deconvolution.
        level: index of the backbone's feature map; the last one has the lowest resolution.
        pretrained: load timm's weights of the backbone.
        **arguments: further arguments of the backbone.

    Raises:
        UserError: if there is no such backbone, it rejects an argument, or the weights can't be loaded.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        backbone: str = "resnet50",
        deconvolutions: int = 3,
        channels: int = DECONVOLUTION_CHANNELS,
        level: int = -1,
        pretrained: bool = False,
        **arguments: Any,
    ) -> None:
        super().__init__()
        self.backbone = _backbone(backbone, in_channels, level, pretrained, arguments)
        given = int(self.backbone.feature_info.channels()[-1])  # type: ignore[operator, union-attr]
        layers: list[nn.Module] = []
        for _ in range(deconvolutions):
            layers += [
                nn.ConvTranspose2d(given, channels, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
            given = channels
        self.deconvolutions = nn.Sequential(*layers)
        self.head = nn.Conv2d(given, num_classes, 1)
        for module in self.deconvolutions:
            if isinstance(module, nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.001)
        nn.init.normal_(self.head.weight, std=0.001)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Return the heatmaps [B, num_classes, h, w] of images [B, C, H, W]."""
        features = self.backbone(images)[-1]
        result: Tensor = self.head(self.deconvolutions(features))
        return result


def _backbone(name: str, in_channels: int, level: int, pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    import timm

    if not timm.is_model(name.partition(".")[0]):
        remedy = did_you_mean(name, timm.list_models(), "timm.list_models('*word*') finds them")
        raise UserError(Fault("model.backbone", "timm has no such model", remedy, name))

    def create(*, pretrained: bool) -> nn.Module:
        network: nn.Module = timm.create_model(
            name, features_only=True, out_indices=[level], in_chans=in_channels, pretrained=pretrained, **arguments
        )
        return network

    try:
        network = create(pretrained=False)
    except Exception as error:  # constructors raise various types for wrong arguments
        rule = f"timm's {name} can't be a backbone: {one_line(error)}"
        raise UserError(Fault("model.backbone", rule, "choose another backbone", name)) from error
    return with_weights(lambda: create(pretrained=True), f"timm's {name}") if pretrained else network


class StackedHourglass(nn.Module):
    """Stacked hourglass network (Newell et al. 2016, arXiv 1603.06937).

    In training, it returns a tuple of the heatmaps of all stages, the last one first.

    Args:
        num_classes: number of points.
        in_channels: channels of an image.
        stacks: number of hourglasses.
        channels: channels of the feature maps.
        depth: number of halvings in an hourglass.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 3, stacks: int = 2, channels: int = 256, depth: int = 4
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels // 4, 7, stride=2, padding=3),
            nn.BatchNorm2d(channels // 4),
            nn.ReLU(inplace=True),
            Bottleneck(channels // 4, channels // 2),
            nn.MaxPool2d(2),
            Bottleneck(channels // 2, channels // 2),
            Bottleneck(channels // 2, channels),
        )
        self.hourglasses = nn.ModuleList(
            nn.Sequential(Hourglass(channels, depth), Bottleneck(channels, channels), _lines(channels))
            for _ in range(stacks)
        )
        self.heads = nn.ModuleList(nn.Conv2d(channels, num_classes, 1) for _ in range(stacks))
        self.merge_features = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(stacks - 1))
        self.merge_maps = nn.ModuleList(nn.Conv2d(num_classes, channels, 1) for _ in range(stacks - 1))

    def forward(self, images: Tensor) -> Any:
        """Return the heatmaps [B, num_classes, H / 4, W / 4] of images [B, C, H, W], in training of all stages."""
        x = self.stem(images)
        found = []
        for stage, (hourglass, head) in enumerate(zip(self.hourglasses, self.heads, strict=True)):
            features = hourglass(x)
            found.append(head(features))
            if stage < len(self.merge_maps):
                x = x + self.merge_features[stage](features) + self.merge_maps[stage](found[-1])
        return tuple(reversed(found)) if self.training and len(found) > 1 else found[-1]


class Hourglass(nn.Module):
    """Halvings of the resolution and, on the way back, sums with the maps of the same resolution.

    Args:
        channels: channels of all maps.
        depth: number of halvings.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.skip = Bottleneck(channels, channels)
        self.down = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), Bottleneck(channels, channels))
        self.inner = Hourglass(channels, depth - 1) if depth > 1 else Bottleneck(channels, channels)
        self.up = Bottleneck(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the shape of x, [B, C, H, W]."""
        inner = self.up(self.inner(self.down(x)))
        larger = nn.functional.interpolate(inner, size=x.shape[2:], mode="nearest")
        result: Tensor = self.skip(x) + larger
        return result


class Bottleneck(nn.Module):
    """Residual block with batch norm and ReLU before each convolution (He et al. 2016), 1x1, 3x3 and 1x1.

    Args:
        given: channels of the input.
        channels: channels of the output; the 3x3 convolution has half of them.
    """

    def __init__(self, given: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            nn.BatchNorm2d(given),
            nn.ReLU(),
            nn.Conv2d(given, half, 1),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, padding=1),
            nn.BatchNorm2d(half),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, channels, 1),
        )
        self.shortcut = nn.Identity() if given == channels else nn.Conv2d(given, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps with the block's channels of x, [B, C, H, W]."""
        return torch.add(self.shortcut(x), self.branch(x))


def _lines(channels: int) -> nn.Module:
    """Return the 1x1 convolution before a head."""
    return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
