"""Dropout on fake CPU tensors as CUDA has it: one operation that keeps a mask of bytes, not of floats."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def fused_dropout(*, on: bool) -> Iterator[None]:
    """While it lasts, `dropout` in training is `native_dropout`, which torch chooses on CUDA only
    (`is_fused_kernel_acceptable` in aten/src/ATen/native/Dropout.cpp)."""
    if not on:
        yield
        return
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a kernel that stands in for another, which is the purpose
        library.impl("dropout", _dropout, "AutogradCPU")  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        library._destroy()  # type: ignore[no-untyped-call]


def _dropout(tensor: Tensor, p: float, train: bool) -> Any:
    if train and 0 < p < 1 and tensor.numel():
        return torch.ops.aten.native_dropout(tensor, p, True)[0]
    return torch.ops.aten.dropout.default.decompose(tensor, p, train)
