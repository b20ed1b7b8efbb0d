"""Gradient buckets of DistributedDataParallel with `gradient_as_bucket_view`. Buckets are never freed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convoy.planner.events import Recorder

FIRST_BUCKET_BYTES, BUCKET_BYTES = 2**20, 25 * 2**20
"""`dist._DEFAULT_FIRST_BUCKET_BYTES`, and the default of DistributedDataParallel's `bucket_cap_mb`."""


class Buckets:
    """Buckets of the gradients in the order of the backward pass, the reverse of the parameters' order.

    Args:
        parameters: Parameters that have a gradient.
        recorder: Recorder of the buckets' allocations.
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
        """Replace a parameter's gradient by its view into the bucket."""
        parameter.grad = self._views[parameter].view(parameter.shape)


def _divided(parameters: Sequence[Tensor]) -> list[list[Tensor]]:
    """Return the buckets. A bucket is closed by the parameter that fills it; each dtype has one open bucket."""
    done: list[list[Tensor]] = []
    open_buckets: dict[torch.dtype, list[Tensor]] = {}
    for parameter in reversed(parameters):
        bucket = open_buckets.setdefault(parameter.dtype, [])
        bucket.append(parameter)
        size = sum(one.numel() * one.element_size() for one in bucket)
        if size >= (FIRST_BUCKET_BYTES if not done else BUCKET_BYTES):
            done.append(open_buckets.pop(parameter.dtype))
    return done + list(open_buckets.values())
