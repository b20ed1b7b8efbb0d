"""Mixed precision on fake CPU tensors by CUDA's rules, so that bytes are those of a run on a GPU.

Under autocast both devices compute convolutions and matrix products in the lower precision, but CUDA's list of
what stays in float32 is longer than the CPU's (norms of layers and groups, softmax, powers, …), and what those
operations keep for the backward pass is then twice as large.
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

# Of torch's own list: AT_FORALL_FP32 and AT_FORALL_FP32_SET_OPT_DTYPE in ATen/autocast_mode.h of torch 2.14,
# without losses, which stand outside of a network, and without what no network calls.
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
    """Autocast for tensors on the CPU, real or fake.

    Args:
        precision: 32 (nothing is cast), bf16-mixed or 16-mixed.
        on_cuda: by CUDA's rules instead of the CPU's. They are put in place for this process while the context
            lasts, and taken away after it.
    """
    if precision not in DTYPES:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of kernels that stand in for others, which is the purpose
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
        if operation is not None:  # not every version has them all
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
