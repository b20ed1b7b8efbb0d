"""CUDA's dropout on fake CPU tensors: one operation that saves a mask of bytes instead of floats."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def fused_dropout(*, on: bool) -> Iterator[None]:
    """Use `native_dropout` for dropout in training, which torch does only on CUDA.

    Source: `is_fused_kernel_acceptable` in aten/src/ATen/native/Dropout.cpp.

    Args:
        on: Whether to change anything.
    """
    if not on:
        yield
        return
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about the overridden kernel; here this is intended
        library.impl("dropout", _dropout, "AutogradCPU")  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        library._destroy()  # type: ignore[no-untyped-call]


def _dropout(tensor: Tensor, p: float, train: bool) -> Any:
    if train and 0 < p < 1 and tensor.numel():
        return torch.ops.aten.native_dropout(tensor, p, True)[0]
    return torch.ops.aten.dropout.default.decompose(tensor, p, train)
