"""EfficientNet with compound scaling of depth, width and resolution."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from torch import nn
from torchvision.models.efficientnet import EfficientNet, MBConvConfig

from convoy.config.faults import Fault, UserError
from convoy.config.image_size import ImageSize, sides_of
from convoy.models.stems import make_stem_small

log = logging.getLogger(__name__)

BASELINE_IMAGE_SIZE = 224

BASELINE = (
    (1, 3, 1, 32, 16, 1),
    (6, 3, 2, 16, 24, 2),
    (6, 5, 2, 24, 40, 2),
    (6, 3, 2, 40, 80, 3),
    (6, 5, 1, 80, 112, 3),
    (6, 5, 2, 112, 192, 4),
    (6, 3, 1, 192, 320, 1),
)
"""Stages of EfficientNet-B0 (Tan & Le 2019, table 1): expansion, window, stride, channels in, channels out, layers."""


@dataclass(frozen=True)
class Scaling:
    """Multipliers of the baseline for a compound coefficient.

    Attributes:
        depth: factor of the layers per stage, which are rounded up.
        width: factor of the channels, which are rounded to multiples of 8.
        image_size: height and width of the images in pixels.
        dropout: probability of the dropout before the last layer.
    """

    depth: float
    width: float
    image_size: int
    dropout: float


def compound_scaling(phi: float, alpha: float = 1.2, beta: float = 1.1, gamma: float = 1.15) -> Scaling:
    """Return depth alpha^phi, width beta^phi and resolution 224 gamma^phi (Tan & Le 2019, equation 3).

    MACs grow with (alpha beta^2 gamma^2)^phi, about 2^phi. The dropout grows linearly from 0.2 at phi = 0 to 0.5 at
    phi = 7, as for B0 to B7 in section 5.2.
    """
    return Scaling(alpha**phi, beta**phi, round(BASELINE_IMAGE_SIZE * gamma**phi), min(0.2 + 0.3 * phi / 7, 0.9))


def efficientnet(
    phi: float,
    num_classes: int,
    in_channels: int = 3,
    image_size: ImageSize | None = None,
    alpha: float = 1.2,
    beta: float = 1.1,
    gamma: float = 1.15,
    stem: str = "standard",
) -> nn.Module:
    """Return the EfficientNet of compound coefficient `phi`: Tan & Le 2019 (arXiv:1905.11946).

    phi = 0 is B0. The published B1 to B7 have coefficients rounded by hand, which differ from the formula; they
    are separate options. The blocks are torchvision's. The network maps images (N, in_channels, H, W) to logits
    (N, num_classes).

    Args:
        phi: compound coefficient, any number from 0.
        num_classes: number of logits.
        in_channels: channels of an image.
        image_size: size of the images; a warning is logged if the formula gives another size.
        alpha: base of the depth.
        beta: base of the width.
        gamma: base of the resolution.
        stem: standard, or small (see `stems.make_stem_small`) for images of another size than the formula's.

    Raises:
        UserError: if phi is below 0 or another coefficient below 1.
    """
    if phi < 0:
        raise UserError(Fault("model.phi", "must be at least 0", "write 0 for EfficientNet-B0", str(phi)))
    for name, base in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if base < 1:
            raise UserError(
                Fault(f"model.{name}", "must be at least 1", "write 1 to keep it out of the scaling", str(base))
            )
    scaling = compound_scaling(phi, alpha, beta, gamma)
    given = scaling.image_size if image_size is None else sides_of(image_size).value
    if stem == "standard" and given != scaling.image_size:
        text = "EfficientNet of phi %g is meant for data.image_size=%d, here it is %s"
        log.warning(text, phi, scaling.image_size, sides_of(given).text)
    stages = [MBConvConfig(*row, width_mult=scaling.width, depth_mult=scaling.depth) for row in BASELINE]
    network: nn.Module = EfficientNet(stages, dropout=scaling.dropout, num_classes=num_classes)
    first = network.get_submodule("features.0.0")
    assert isinstance(first, nn.Conv2d)
    if in_channels != first.in_channels:
        own = nn.Conv2d(in_channels, first.out_channels, 3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(own.weight, mode="fan_out")
        network.set_submodule("features.0.0", own)
    if stem == "small":
        make_stem_small(network, "efficientnet")
    return network
