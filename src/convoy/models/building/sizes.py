"""Smallest image size that a network accepts, found by running it on the meta device."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.func import functional_call

from convoy.config.image_size import ImageSize, Sides, sides_of

CANDIDATES = (32, 64, 128, 224, 299, 331, 512)
"""Image sizes in pixels that are tested before the bisection."""


def takes_image_size(network: nn.Module, in_channels: int, image_size: ImageSize) -> bool:
    """Return whether the network accepts two images of a size in its current mode.

    The forward pass runs with copies of its tensors on the meta device; the network does not change.
    """
    return refusal_of(network, in_channels, image_size) is None


def refusal_of(network: nn.Module, in_channels: int, image_size: ImageSize, num_images: int = 2) -> Exception | None:
    """Return the error of a layer for such images; None if the network accepts them (see `takes_image_size`)."""
    with torch.no_grad(), unset_fake_temporarily():
        tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        state = {name: _without_values(tensor) for name, tensor in tensors.items()}
        images = torch.empty(num_images, in_channels, *sides_of(image_size), device="meta")
        try:
            functional_call(network, state, (images,))
        except Exception as error:  # layers raise various types for an unsuitable input
            return error
    return None


def smallest_image_size(network: nn.Module, in_channels: int, above: ImageSize) -> Sides | None:
    """Return the smallest image size above `above` that the network accepts; None if none is found.

    The sides that are too short are enlarged to one length. The bisection assumes that a network accepts every size
    above the smallest. The result is None for networks that accept a single size, such as attention with learned
    positions.
    """
    given = sides_of(above)

    def enlarged(side: int) -> Sides:
        return Sides(max(given.height, side), max(given.width, side))

    low = given.shorter
    for candidate in CANDIDATES:
        if candidate <= low:
            continue
        if takes_image_size(network, in_channels, enlarged(candidate)):
            high = candidate
            break
        low = candidate
    else:
        return None
    if not takes_image_size(network, in_channels, enlarged(high + 1)):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if takes_image_size(network, in_channels, enlarged(middle)):
            high = middle
        else:
            low = middle
    return enlarged(high)


def _without_values(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
