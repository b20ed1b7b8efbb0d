"""Batch norm folded for test time: into the convolution or linear layer whose output it normalizes.

At test time batch norm is a linear map a channel, and so is the layer before it: one layer can do both. Which layers
stand directly before a batch norm is seen by watching one image go through the network, so that it holds for any
network that runs, whatever its modules are called.
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
"""The names of a convolution or linear layer and of the batch norm that directly follows it."""


@dataclass(frozen=True)
class Folding:
    """Batch norms of a network that can be folded.

    Attributes:
        pairs: each layer with its batch norm.
        kept: batch norms that can't be: no layer's output is theirs alone.
        idle: batch norms that take no part in evaluation, such as those of auxiliary classifiers.
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

    A batch norm can be folded if it normalizes by running statistics the whole output of one convolution or linear
    layer, which nothing else reads, and where each of the two is run once.

    Args:
        network: in evaluation mode; not changed.
        image: (1, C, S, S), any values.
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
    """Fold each pair, in place: the layer gets a bias, and the batch norm's place is taken by what else it did.

    With mean m, variance v, scale g and shift b of the batch norm, w becomes w g / sqrt(v + eps) and the bias
    (bias - m) g / sqrt(v + eps) + b (Ioffe & Szegedy 2015, section 3.1). Computed in float64, kept as it was.

    Args:
        network: in evaluation mode.
        pairs: as `find_pairs` gives them for this network.
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
        assert rest is not None, "find_pairs has seen to it"
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
    """A batch norm at work: the ids of its input and of its running means."""

    input: int
    statistics: int


class _Flow(TorchFunctionMode):
    """Readers of each function's output, recorded while one image passes through.

    Attributes:
        layers: the id of the weight, by the id of an output.
        norms: the batch norms, in order.
        reads: how often a tensor is read, by its id.
        runs: how often a layer or batch norm is run, by the id of its weight or running means.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers: dict[int, int] = {}
        self.norms: list[_NormCall] = []
        self.reads: Counter[int] = Counter()
        self.runs: Counter[int] = Counter()
        # An id is a tensor's own only as long as the tensor lives.
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
