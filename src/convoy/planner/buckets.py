"""DDP's buckets as Convoy sets it up, with gradient_as_bucket_view: gradients lie in buckets that are never freed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convoy.planner.events import Recorder

FIRST_BUCKET_BYTES, BUCKET_BYTES = 2**20, 25 * 2**20
"""dist._DEFAULT_FIRST_BUCKET_BYTES, and DistributedDataParallel's bucket_cap_mb."""


class Buckets:
    """Gradients in the order in which the backward pass gives them: the reverse of the parameters'.

    Args:
        parameters: that get a gradient.
        recorder: told of the buckets.
    """

    def __init__(self, parameters: Sequence[Tensor], recorder: Recorder) -> None:
        self._views: dict[Tensor, Tensor] = {}
        recorder.category = "ddp_buffers"
        for bucket in _divided(parameters):
            flat = torch.empty(sum(parameter.numel() for parameter in bucket), dtype=bucket[0].dtype)
            offset = 0
            for parameter in bucket:
                self._views[parameter] = flat[offset : offset + parameter.numel()]
                offset += parameter.numel()

    def take(self, parameter: Tensor) -> None:
        """A parameter's gradient is copied into its bucket, and is a view of it from then on."""
        parameter.grad = self._views[parameter].view(parameter.shape)


def _divided(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """A bucket is closed with the parameter that fills it; there is one for each dtype at a time."""
    done: list[list[Tensor]] = []
    open_buckets: dict[torch.dtype, list[Tensor]] = {}
    for parameter in reversed(parameters):
        bucket = open_buckets.setdefault(parameter.dtype, [])
        bucket.append(parameter)
        size = sum(one.numel() * one.element_size() for one in bucket)
        if size >= (FIRST_BUCKET_BYTES if not done else BUCKET_BYTES):
            done.append(open_buckets.pop(parameter.dtype))
    return done + list(open_buckets.values())
