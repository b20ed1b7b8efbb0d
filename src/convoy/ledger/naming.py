"""Layer names in the usual notation: CONV3-64, POOL2, FC-4096."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from convoy.ledger.forward_recorder import Step
from convoy.ledger.windows import Window, pair_text

_PLAIN = {
    "BatchNorm1d": "BN",
    "BatchNorm2d": "BN",
    "BatchNorm3d": "BN",
    "SyncBatchNorm": "BN",
    "LayerNorm": "LN",
    "LayerNorm2d": "LN",
    "GroupNorm": "GN",
    "LeakyReLU": "LEAKYRELU",
}

_FUNCTIONS = {
    "batch_norm": "BN",
    "native_batch_norm": "BN",
    "layer_norm": "LN",
    "group_norm": "GN",
    "linear": "FC",
    "scaled_dot_product_attention": "ATTENTION",
    "multi_head_attention_forward": "ATTENTION",
    "concat": "CAT",
    "concatenate": "CAT",
    "__getitem__": "SLICE",
    "truediv": "DIV",
    "boolean_dispatch.<locals>.fn": "POOL",
}

_OPERATORS = re.compile(r"__(?:i|r)?(add|sub|mul|matmul|truediv|pow|and|or)__|(.+?)_?")


def name_of(step: Step, channels: int) -> str:
    """Return the name of a step.

    Args:
        step: Call of a module or a function.
        channels: Number of output channels, which is part of the name of a function's matrix product.
    """
    if step.layer is not None:
        return _of_module(step.layer)
    name = step.function.strip()
    match = _OPERATORS.fullmatch(name)
    name = _FUNCTIONS.get(name) or (match[1] or match[2] if match else name)
    name = _FUNCTIONS.get(name, name).strip("_").upper()
    if name == "FC":
        return f"FC-{channels}"
    if not step.windows:
        return name
    window = step.windows[-1]
    if window.filters:
        word = "CONVT" if window.is_transposed else "CONV"
        return f"{word}{_window(window)}-{window.filters}{_stride(window.stride, (1, 1))}"
    if "POOL" in name or name == "BOOLEAN_DISPATCH":
        return f"{'AVGPOOL' if 'AVG' in name else 'POOL'}{_window(window)}{_stride(window.stride, window.size)}"
    return name


def _of_module(module: nn.Module) -> str:
    kind = type(module).__name__
    size = getattr(module, "kernel_size", None)
    filters = getattr(module, "out_channels", None)
    if size is not None and isinstance(filters, int):
        return _convolution(module, kind)
    if size is not None and "Pool" in kind:
        return _pool(module, kind)
    if isinstance(module, nn.Linear):
        return f"FC-{module.out_features}"
    if "AdaptiveAvgPool" in kind:
        size = getattr(module, "output_size", 1)
        return "GAP" if size in (1, (1, 1)) else f"AVGPOOL to {_numbers(size)}"
    if isinstance(module, nn.GroupNorm):
        return f"GN{module.num_groups}"
    if isinstance(module, nn.LocalResponseNorm):
        return f"LRN{module.size}"
    if kind.startswith(("Dropout", "AlphaDropout", "FeatureAlphaDropout")):
        return f"DROPOUT{getattr(module, 'p', 0.0):g}"
    if isinstance(module, nn.LeakyReLU):
        return f"LEAKYRELU{module.negative_slope:g}"
    if kind == "Maxout":
        return f"MAXOUT{getattr(module, 'filters_per_unit', '')}"
    return _PLAIN.get(kind, kind.upper())


def _convolution(module: Any, kind: str) -> str:
    """Return CONV3-64 and what differs from the default: /2 (stride), p0 (padding), g32 (groups), d2 (dilation)."""
    word = "LOCAL" if kind.startswith("LocallyConnected") else "CONVT" if "Transpose" in kind else "CONV"
    word += {"Conv1d": "1D-", "Conv3d": "3D-"}.get(kind, "")
    text = f"{word}{_numbers(module.kernel_size)}-{module.out_channels}{_stride(getattr(module, 'stride', 1), 1)}"
    dilation = _pair(getattr(module, "dilation", 1))
    if type(module) is nn.Conv2d or word == "LOCAL":
        same = tuple((side - 1) // 2 * step for side, step in zip(_pair(module.kernel_size), dilation, strict=True))
        padding = module.padding if isinstance(module.padding, str) else _pair(module.padding)
        text += "" if padding == same or isinstance(padding, str) else f" p{_numbers(padding)}"
    text += f" g{module.groups}" if getattr(module, "groups", 1) > 1 else ""
    return text + (f" d{_numbers(dilation)}" if max(dilation) > 1 else "")


def _pool(module: Any, kind: str) -> str:
    word = {"Max": "POOL", "Avg": "AVGPOOL", "L2P": "L2POOL", "LPP": f"L{getattr(module, 'norm_type', '')}POOL"}
    text = f"{word.get(kind[:3], kind.upper())}{_numbers(module.kernel_size)}"
    stride = getattr(module, "stride", None) or module.kernel_size
    text += _stride(stride, module.kernel_size)
    padding = getattr(module, "padding", 0)
    return text + (f" p{_numbers(padding)}" if max(_pair(padding)) else "")


def _window(window: Window) -> str:
    return pair_text(window.size)


def _stride(stride: Any, usual: Any) -> str:
    return "" if _pair(stride) == _pair(usual) else f"/{_numbers(stride)}"


def _numbers(value: Any) -> str:
    return pair_text(_pair(value))


def _pair(value: Any) -> tuple[int, int]:
    sides = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return (sides[0], sides[-1])
