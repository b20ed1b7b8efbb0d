"""Folding of batch norms into the preceding convolution or linear layer for inference.

At inference, batch norm is a linear map per channel, which can be merged into the preceding linear layer. The layers
directly before a batch norm are found by observing a forward pass of one image, which works for any network and
independently of module names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights
from torch.overrides import TorchFunctionMode

Pair = tuple[str, str]
"""Names of a convolution or linear layer and of the batch norm directly after it."""


@dataclass(frozen=True)
class Folding:
    """Batch norms of a network that can be folded.

    Attributes:
        pairs: layers with their batch norms.
        kept: batch norms that can't be folded, since no layer is read by them alone.
        idle: batch norms that don't run in evaluation, such as those of auxiliary classifiers.
    """

    pairs: tuple[Pair, ...]
    kept: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the counts in one line."""
        if not (self.pairs or self.kept or self.idle):
            return "none in this network"
        parts = [f"{len(self.pairs)} folded into the layer before"]
        if self.kept:
            parts.append(f"{len(self.kept)} could not be ({_listed(self.kept)}: not directly after a layer)")
        if self.idle:
            parts.append(f"{len(self.idle)} only take part in training")
        return ", ".join(parts)


def find_pairs(network: nn.Module, image: Tensor) -> Folding:
    """Return the batch norms of a network that can be folded.

    A batch norm can be folded if it uses running statistics, its input is the whole output of one convolution or
    linear layer, nothing else reads that output, and both layers run once.

    Args:
        network: network in evaluation mode; not changed.
        image: (1, C, H, W), any values.
    """
    flow = _Flow()
    with torch.no_grad(), flow:
        network(image)
    layers = {id(module.weight): name for name, module in network.named_modules() if _is_layer(module)}
    norms = {name: module for name, module in network.named_modules() if isinstance(module, _BatchNorm)}
    names = {id(norm.running_mean): name for name, norm in norms.items() if norm.running_mean is not None}
    pairs, met = [], set()
    for call in flow.norms:
        name = names.get(call.statistics)
        if name is None:
            continue
        met.add(name)
        before = flow.layers.get(call.input)
        layer = layers.get(before) if before is not None else None
        alone = flow.reads[call.input] == 1 and before is not None and flow.runs[before] == 1
        if layer is not None and alone and flow.runs[call.statistics] == 1 and _rest(norms[name]) is not None:
            pairs.append((layer, name))
    folded = {norm for _, norm in pairs}
    return Folding(
        tuple(pairs),
        tuple(name for name in norms if name not in folded and (name in met or norms[name].running_mean is None)),
        tuple(name for name in norms if name not in met and norms[name].running_mean is not None),
    )


def fold(network: nn.Module, pairs: Sequence[Pair]) -> None:
    """Fold each pair in place: the layer receives a bias, and the batch norm is replaced by its remaining operations.

    With mean m, variance v, scale g and shift b of the batch norm, w becomes w g / sqrt(v + eps) and the bias
    (bias - m) g / sqrt(v + eps) + b (Ioffe & Szegedy 2015, section 3.1). The values are computed in float64 and stored
    in the layer's dtype.

    Args:
        network: network in evaluation mode.
        pairs: result of `find_pairs` for this network.
    """
    for layer_name, norm_name in pairs:
        layer: Any = network.get_submodule(layer_name)
        norm: Any = network.get_submodule(norm_name)
        fuse: Callable[..., tuple[Tensor, Tensor]] = (
            fuse_linear_bn_weights if isinstance(layer, nn.Linear) else fuse_conv_bn_weights
        )
        scale = torch.ones_like(norm.running_mean) if norm.weight is None else norm.weight
        shift = torch.zeros_like(norm.running_mean) if norm.bias is None else norm.bias
        bias = torch.zeros_like(norm.running_mean) if layer.bias is None else layer.bias
        exact = [value.detach().double() for value in (norm.running_mean, norm.running_var, scale, shift)]
        with torch.no_grad():
            weight, bias = fuse(layer.weight.double(), bias.double(), *exact[:2], norm.eps, *exact[2:])
        layer.weight = nn.Parameter(weight.detach().to(layer.weight.dtype))
        layer.bias = nn.Parameter(bias.detach().to(layer.weight.dtype))
        rest = _rest(norm)
        assert rest is not None, "find_pairs requires it"
        network.set_submodule(norm_name, rest)


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.Linear)


def _rest(norm: nn.Module) -> nn.Module | None:
    """Return the rest of a batch norm module: nothing, or timm's dropout and activation; None if it isn't known."""
    if type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d):
        return nn.Identity()
    if type(norm).__module__.startswith("timm.") and type(norm).__name__ == "BatchNormAct2d":
        return nn.Sequential(norm.get_submodule("drop"), norm.get_submodule("act"))
    return None


@dataclass(frozen=True)
class _NormCall:
    """Call of a batch norm: the ids of its input and of its running means."""

    input: int
    statistics: int


class _Flow(TorchFunctionMode):
    """Readers of each function's output, recorded while one image passes through.

    Attributes:
        layers: id of the weight by the id of an output.
        norms: calls of batch norms, in order.
        reads: number of reads of a tensor by its id.
        runs: number of calls of a layer or batch norm by the id of its weight or running means.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers: dict[int, int] = {}
        self.norms: list[_NormCall] = []
        self.reads: Counter[int] = Counter()
        self.runs: Counter[int] = Counter()
        # Keep all tensors alive, since the id of a freed tensor can be reused.
        self._alive: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        outputs = list(_tensors(result))
        if not outputs:  # a shape or a size
            return result
        inputs = list(_tensors([args, kwargs]))
        self._alive += [*inputs, *outputs]
        self.reads.update({id(tensor) for tensor in inputs})
        if func in (functional.conv2d, functional.linear) and len(args) > 1:
            self.runs[id(args[1])] += 1
            if func is functional.conv2d or result.dim() == 2:
                self.layers[id(result)] = id(args[1])
        elif func is functional.batch_norm and len(args) > 1:
            self.runs[id(args[1])] += 1
            self.norms.append(_NormCall(id(args[0]), id(args[1])))
        return result


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for child in value:
            yield from _tensors(child)


def _listed(names: Sequence[str], most: int = 3) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
