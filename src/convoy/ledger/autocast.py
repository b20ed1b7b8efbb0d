"""Autocast on fake CPU tensors by the rules of CUDA, so that byte counts match those of a run on a GPU.

Under autocast, both devices compute convolutions and matrix products in the lower precision. CUDA keeps more
operations in float32 than the CPU does (layer and group norms, softmax, powers, …). The tensors that these operations
save for the backward pass are then twice as large.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}

# From AT_FORALL_FP32 and AT_FORALL_FP32_SET_OPT_DTYPE in ATen/autocast_mode.h of torch 2.14, without the losses,
# which are not part of a network, and without operations that no network calls.
_FLOAT32_ON_CUDA = (
    "acos",
    "asin",
    "cosh",
    "exp",
    "expm1",
    "log",
    "log10",
    "log2",
    "log1p",
    "reciprocal",
    "rsqrt",
    "sinh",
    "tan",
    "softplus",
    "pow.Tensor_Scalar",
    "pow.Tensor_Tensor",
    "pow.Scalar",
    "layer_norm",
    "native_layer_norm",
    "rms_norm",
    "group_norm",
    "cosine_similarity",
    "cdist",
    "renorm",
    "logsumexp",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d",
    "_upsample_nearest_exact3d",
    "upsample_linear1d",
    "upsample_bilinear2d",
    "_upsample_bilinear2d_aa",
    "upsample_trilinear3d",
    "upsample_bicubic2d",
    "_upsample_bicubic2d_aa",
    "prod",
    "prod.dim_int",
    "softmax.int",
    "log_softmax.int",
    "cumprod",
    "cumsum",
    "linalg_vector_norm",
    "sum",
    "sum.dim_IntList",
)


@contextmanager
def autocast(precision: str, *, on_cuda: bool) -> Iterator[None]:
    """Apply autocast to CPU tensors, real or fake.

    Args:
        precision: "32" (no cast), "bf16-mixed" or "16-mixed".
        on_cuda: Follow the rules of CUDA instead of those of the CPU. The rules are registered for the whole process
            and removed when the context ends.
    """
    if precision not in DTYPES:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about overridden kernels; here this is intended
        library = _cuda_rules() if on_cuda else None
        try:
            with torch.autocast("cpu", dtype=DTYPES[precision]):
                yield
        finally:
            if library is not None:
                library._destroy()  # type: ignore[no-untyped-call]


def _cuda_rules() -> torch.library.Library:
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    for name in _FLOAT32_ON_CUDA:
        packet, _, overload = name.partition(".")
        operation = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)
        if operation is not None:  # older versions of torch lack some of them
            library.impl(name, _in_float32(operation), "AutocastCPU")  # type: ignore[no-untyped-call]
    return library


def _in_float32(operation: Callable[..., Any]) -> Callable[..., Any]:
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)

    def cast(tensor: Tensor) -> Tensor:
        return tensor.float() if tensor.dtype in DTYPES.values() else tensor

    def run(*arguments: Any, **keywords: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(keys):
            arguments, keywords = tree_map_only(Tensor, cast, (arguments, keywords))
            return operation(*arguments, **keywords)

    return run
