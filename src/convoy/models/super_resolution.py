"""Small networks for super-resolution: SRCNN, ESPCN, FSRCNN and VDSR.

They map images [N, in_channels, H, W] with values in 0..1 to [N, out_channels, H, W] or, where they enlarge the image
themselves, to [N, out_channels, scale H, scale W]. They are fully convolutional and accept images of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from convoy.config.faults import Fault, UserError

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


class SRCNN(nn.Module):
    """SRCNN of Dong et al. 2015 (arXiv:1501.00092), for images that were enlarged before: three convolutions.

    Args:
        in_channels: channels of an image.
        out_channels: channels of the result.
        kernel_sizes: F of the three layers, such as 9-1-5 or 9-5-5 of the paper.
        filters: filters of the first two layers.

    Raises:
        UserError: if the numbers of kernel sizes and filters don't match.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_sizes: Sequence[int] = (9, 1, 5),
        filters: Sequence[int] = (64, 32),
    ) -> None:
        super().__init__()
        if len(kernel_sizes) != len(filters) + 1:
            rule = f"has {len(filters)} numbers, one less than layers; model.kernel_sizes has {len(kernel_sizes)}"
            remedy = f"write {len(kernel_sizes) - 1} numbers of filters"
            raise UserError(Fault("model.filters", rule, remedy, str(list(filters))))
        widths = [in_channels, *filters, out_channels]
        self.layers = nn.Sequential()
        for (inputs, outputs), size in zip(pairwise(widths), kernel_sizes, strict=True):
            if len(self.layers):
                self.layers.append(nn.ReLU(inplace=True))
            self.layers.append(nn.Conv2d(inputs, outputs, size, padding=size // 2))
        _initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        enlarged: Tensor = self.layers(images)
        return enlarged


class ESPCN(nn.Module):
    """ESPCN of Shi et al. 2016 (arXiv:1609.05158): convolutions at low resolution, then a pixel shuffle.

    Args:
        in_channels: channels of an image.
        out_channels: channels of the result.
        scale: enlargement of height and width.
        activation: tanh, or relu.

    Raises:
        UserError: if there is no such activation.
    """

    def __init__(self, in_channels: int, out_channels: int, scale: int, activation: str = "tanh") -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise UserError(
                Fault("model.activation", "no such activation", f"choose from {', '.join(ACTIVATIONS)}", activation)
            )
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 64, 5, padding=2),
            ACTIVATIONS[activation](),
            nn.Conv2d(64, 32, 3, padding=1),
            ACTIVATIONS[activation](),
            nn.Conv2d(32, out_channels * scale**2, 3, padding=1),
        )
        self.shuffle = nn.PixelShuffle(scale)
        _initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        enlarged: Tensor = self.shuffle(self.layers(images))
        return enlarged


class FSRCNN(nn.Module):
    """FSRCNN(d, s, m) of Dong et al. 2016 (arXiv:1608.00367): an hourglass at low resolution, then a deconvolution.

    Args:
        in_channels: channels of an image.
        out_channels: channels of the result.
        scale: enlargement of height and width.
        features: d, filters of the feature extraction and the expansion.
        shrunk: s, filters of the mapping.
        mapping_layers: m, number of 3x3 convolutions of the mapping.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale: int,
        features: int = 56,
        shrunk: int = 12,
        mapping_layers: int = 4,
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_channels, features, 5, padding=2), nn.PReLU(features))
        self.layers.extend([nn.Conv2d(features, shrunk, 1), nn.PReLU(shrunk)])
        for _ in range(mapping_layers):
            self.layers.extend([nn.Conv2d(shrunk, shrunk, 3, padding=1), nn.PReLU(shrunk)])
        self.layers.extend([nn.Conv2d(shrunk, features, 1), nn.PReLU(features)])
        # A 9x9 window and this padding result in exactly `scale` times the size for every scale.
        self.deconvolution = nn.ConvTranspose2d(
            features, out_channels, 9, stride=scale, padding=4, output_padding=scale - 1
        )
        _initialize(self)
        nn.init.normal_(self.deconvolution.weight, std=0.001)

    def forward(self, images: Tensor) -> Tensor:
        enlarged: Tensor = self.deconvolution(self.layers(images))
        return enlarged


class VDSR(nn.Module):
    """VDSR of Kim et al. 2016 (arXiv:1511.04587), for images that were enlarged before: it predicts the difference.

    Args:
        in_channels: channels of an image.
        out_channels: channels of the result.
        depth: number of 3x3 convolutions.
        width: filters of each but the last.
    """

    def __init__(self, in_channels: int, out_channels: int, depth: int = 20, width: int = 64) -> None:
        super().__init__()
        widths = [in_channels, *[width] * (depth - 1), out_channels]
        self.layers = nn.Sequential()
        for inputs, outputs in pairwise(widths):
            if len(self.layers):
                self.layers.append(nn.ReLU(inplace=True))
            self.layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
        _initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        difference: Tensor = self.layers(images)
        return images + difference


def _initialize(network: nn.Module) -> None:
    """Initialize as He et al. 2015 (arXiv:1502.01852), without a gain for the last convolution, which has no ReLU."""
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for module in convolutions:
        nn.init.kaiming_normal_(module.weight, nonlinearity="linear" if module is convolutions[-1] else "relu")
        assert module.bias is not None
        nn.init.zeros_(module.bias)
