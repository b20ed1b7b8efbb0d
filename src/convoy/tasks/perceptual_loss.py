"""Perceptual loss: distance between the feature maps of a frozen network of torchvision."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from convoy.config.faults import Fault, UserError
from convoy.models.building.weights import read_weights, torchvision_weights

_PREFIX = "features."
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Normalization of torchvision's networks."""


class PerceptualLoss(nn.Module):
    """Distance of feature maps plus distance of pixels, both L1 (ESRGAN, Wang et al. 2018, arXiv:1809.00219).

    The network is frozen. It is no part of the run's weights: no checkpoint, average or optimizer has it.

    Args:
        network: network of torchvision with a sequence `features`, such as vgg19.
        layer: index in `features` of the last layer that is computed; 34 of VGG-19 is conv5_4, before its ReLU.
        weights: file of the network's weights, of which only the layers up to `layer` are used; None for torchvision's,
            which are downloaded once.
        pixel_weight: factor of the L1 distance of the pixels.
        reduction: `mean`, or `none` for the loss per image.
    """

    def __init__(
        self,
        network: str = "vgg19",
        layer: int = 34,
        weights: str | None = None,
        pixel_weight: float = 0.01,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.pixel_weight, self.reduction = pixel_weight, reduction
        self._source = network, layer, weights
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_STD)[:, None, None], persistent=False)
        # In a list, so that its weights are not part of the task's.
        self._networks: list[nn.Module] = []

    mean: Tensor
    std: Tensor

    def prepare(self) -> None:
        """Load the network.

        Raises:
            UserError: there is no such network or layer, or the weights can't be loaded.
        """
        if not self._networks:
            self._networks.append(_frozen_features(*self._source))

    @property
    def resident_bytes(self) -> int:
        """Weights of the network."""
        return sum(tensor.nbytes for one in self._networks for tensor in one.state_dict().values())

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of images and originals, [B, 1 or 3, H, W]."""
        self.prepare()
        (network,) = self._networks
        if next(network.parameters()).device != outputs.device:
            network.to(outputs.device)
        with torch.no_grad():
            wanted = network(self._normalized(targets))
        distances: Tensor = (network(self._normalized(outputs)) - wanted).abs().flatten(1).mean(1)
        losses = distances + self.pixel_weight * (outputs - targets).abs().flatten(1).mean(1)
        return losses if self.reduction == "none" else losses.mean()

    def _normalized(self, images: Tensor) -> Tensor:
        return (images.expand(-1, 3, -1, -1) - self.mean) / self.std


@lru_cache(maxsize=1)
def _frozen_features(name: str, layer: int, file: str | None) -> nn.Module:
    """Return the first layers of a network; the losses of training and evaluation share it."""
    names = torchvision.models.list_models(module=torchvision.models)
    with torch.device("meta"):
        features = getattr(torchvision.models.get_model(name), "features", None) if name in names else None
    if not isinstance(features, nn.Sequential):
        rule = "is no network of torchvision with a sequence of features"
        raise UserError(Fault("loss.network", rule, "write vgg16 or vgg19", name))
    if not 0 <= layer < len(features):
        rule = f"{name} has the layers 0 to {len(features) - 1}"
        raise UserError(Fault("loss.layer", rule, "write one of them", str(layer)))
    if file is not None and not Path(file).expanduser().is_file():
        raise UserError(Fault("loss.weights", "no such file", "write null for torchvision's weights", file))
    state = torchvision_weights(name, "loss.weights") if file is None else read_weights(Path(file).expanduser())
    kept = features[: layer + 1].to_empty(device="cpu")
    own = {key.removeprefix(_PREFIX): value for key, value in state.items() if key.startswith(_PREFIX)}
    wanted = kept.state_dict()
    if wrong := [key for key, value in wanted.items() if key not in own or own[key].shape != value.shape]:
        rule = f"has no weights of {name} for {_PREFIX}{wrong[0]}"
        raise UserError(Fault("loss.weights", rule, f"give weights of torchvision's {name}", str(file)))
    kept.load_state_dict({key: own[key] for key in wanted})
    for module in kept:
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return kept.eval().requires_grad_(False)
