"""Smallest image size that a network accepts, found by running it on the meta device."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.func import functional_call

CANDIDATES = (32, 64, 128, 224, 299, 331, 512)
"""Image sizes in pixels that are tested before the bisection."""


def takes_image_size(network: nn.Module, in_channels: int, image_size: int) -> bool:
    """Return whether the network accepts two images (in_channels, image_size, image_size) in its current mode.

    The forward pass runs with copies of its tensors on the meta device; the network does not change.
    """
    return refusal_of(network, in_channels, image_size) is None


def refusal_of(network: nn.Module, in_channels: int, image_size: int, num_images: int = 2) -> Exception | None:
    """Return the error of a layer for such images; None if the network accepts them (see `takes_image_size`)."""
    with torch.no_grad(), unset_fake_temporarily():
        tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        state = {name: _without_values(tensor) for name, tensor in tensors.items()}
        images = torch.empty(num_images, in_channels, image_size, image_size, device="meta")
        try:
            functional_call(network, state, (images,))
        except Exception as error:  # layers raise various types for an unsuitable input
            return error
    return None


def smallest_image_size(network: nn.Module, in_channels: int, above: int) -> int | None:
    """Return the smallest image size above `above` pixels that the network accepts; None if none is found.

    The bisection assumes that a network accepts every size above the smallest. The result is None for networks that
    accept a single size, such as attention with learned positions.
    """
    low = above
    for candidate in CANDIDATES:
        if candidate <= above:
            continue
        if takes_image_size(network, in_channels, candidate):
            high = candidate
            break
        low = candidate
    else:
        return None
    if not takes_image_size(network, in_channels, high + 1):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if takes_image_size(network, in_channels, middle):
            high = middle
        else:
            low = middle
    return high


def _without_values(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
