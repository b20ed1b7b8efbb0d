"""Copies of decoded batches to a GPU: one pinned buffer per batch, one asynchronous copy on a separate stream.

A copy from pageable memory makes the CPU wait until the GPU has finished all earlier work. Pixels, targets and random
parameters of a batch therefore travel together from pinned memory, while the GPU computes the batch before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

_ALIGNMENT = 16
"""Largest size of an element in bytes; a tensor's position in the buffer is a multiple of it."""

_EXTRA_BYTES_PER_IMAGE = 64
"""Bytes per image for targets and random parameters; a buffer grows if they need more."""


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on `device`, copied from pinned memory without waiting if `device` is a GPU."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        # The allocator of pinned memory reuses a block only after the copies from it.
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class CopyStream:
    """Stream of a GPU on which batches are copied."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def copy(self, pinned: Tensor) -> tuple[Tensor, torch.cuda.Event]:
        """Start the copy of `pinned` to the GPU; return the copy and the event of its end."""
        with torch.cuda.stream(self._stream):
            copied = pinned.to(self._device, non_blocking=True)
            return copied, self._stream.record_event()

    def hand_over(self, copied: Tensor, event: torch.cuda.Event) -> None:
        """Let the current stream wait for a copy, which may then be used there."""
        current = torch.cuda.current_stream(self._device)
        current.wait_event(event)
        # Otherwise the allocator could give the memory to the next copy while the current stream reads it.
        copied.record_stream(current)


class BatchBuffer:
    """Memory of one batch, which is reused: uint8 images in NHWC, followed by targets and random parameters.

    Attributes:
        pixels: uint8 [B, H, W, C], to be filled.
    """

    pixels: NDArray[np.uint8]

    def __init__(self, shape: tuple[int, int, int, int], stream: CopyStream | None) -> None:
        """Allocate the memory.

        Args:
            shape: largest number of images, H, W, C.
            stream: stream of the copies to a GPU, or None if the batch stays on the CPU.
        """
        self._shape = shape
        self._stream = stream
        self._event: torch.cuda.Event | None = None
        self._copied: Tensor | None = None
        self._allocate(math.prod(self._shape) + (shape[0] * _EXTRA_BYTES_PER_IMAGE if stream else 0))

    def _allocate(self, num_bytes: int) -> None:
        self._bytes = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=self._stream is not None)
        self.pixels = self._bytes[: math.prod(self._shape)].numpy().reshape(self._shape)

    def wait(self) -> None:
        """Wait until the buffer may be written to again."""
        if self._event is not None:
            self._event.synchronize()
        self._event = self._copied = None

    def keep(self, places: Sequence[int]) -> None:
        """Move the images at the ascending positions `places` to the beginning."""
        for place, kept in enumerate(places):
            if place != kept:
                self.pixels[place] = self.pixels[kept]

    def send(self, num_images: int, extra: Any) -> None:
        """Start the copy of the first images and of `extra`, a tree with tensors on the CPU."""
        self._num_images = num_images
        leaves, self._tree = tree_flatten(extra)
        self._leaves: list[Any] = leaves
        if self._stream is None:
            return
        begin = self.pixels[:num_images].size
        self._begins: dict[int, int] = {}
        for index, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor):
                self._begins[index] = begin = -(-begin // _ALIGNMENT) * _ALIGNMENT
                begin += leaf.nbytes
        self._reserve(begin)
        for index, start in self._begins.items():
            self._part(self._bytes, start, leaves[index]).copy_(leaves[index])
        self._copied, self._event = self._stream.copy(self._bytes[:begin])

    def receive(self) -> tuple[Tensor, Any]:
        """Return what was sent: images, uint8 [B, C, H, W] in channels_last, and the tree, all on the device.

        On the CPU, the images share the buffer's memory.
        """
        source, leaves = self._bytes, list(self._leaves)
        if self._stream is not None:
            assert self._copied is not None, "send comes first"
            assert self._event is not None, "send comes first"
            source = self._copied
            self._stream.hand_over(source, self._event)
            self._copied = None
            for index, start in self._begins.items():
                leaves[index] = self._part(source, start, leaves[index])
        images = source[: self.pixels[: self._num_images].size].view(self._num_images, *self._shape[1:])
        return images.permute(0, 3, 1, 2), tree_unflatten(leaves, self._tree)

    def _reserve(self, num_bytes: int) -> None:
        """Enlarge the buffer to `num_bytes`; its images are kept."""
        if num_bytes > len(self._bytes):
            pixels = self.pixels
            self._allocate(num_bytes)
            self.pixels[:] = pixels

    @staticmethod
    def _part(source: Tensor, start: int, like: Tensor) -> Tensor:
        """Return the part of `source` that begins at `start`, with the type and shape of a tensor."""
        return source[start : start + like.nbytes].view(like.dtype).view(like.shape)
