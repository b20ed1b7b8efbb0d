"""Forward and backward time of each layer on a run's first steps, without any change to the results.

Forward passes are timed by hooks on the modules. Backward passes are timed by hooks on the autograd nodes between a
module's inputs and outputs: full backward hooks of modules wrap inputs and outputs, which fails on in-place ReLU. Time
stamps are only recorded while the steps run, and evaluated at the end.

On a GPU, time stamps are events in the stream. If the GPU waited for the CPU to launch the next kernel, the time
between two events would include the launch. A kernel that only waits therefore precedes each pass, until the CPU has
launched the whole pass.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from convoy.ledger.measured import Call, Measured
from convoy.runtime.devices import synchronize

_MOST_NODES = 200
"""Largest number of autograd nodes of one call; larger graphs are not those of a single layer."""


_GPU_CYCLES_PER_S = 2_500_000_000
"""Upper limit of the clock rate of NVIDIA GPUs, 1.4 to 2.5 GHz; at a lower rate, a wait in cycles takes longer."""

_LONGEST_WAIT_S = 1.0


class _Clock(Protocol):
    def begin_pass(self) -> None: ...

    def mark(self) -> Any: ...

    def between_ms(self, start: Any, end: Any) -> float: ...


class _HostClock:
    """Clock for the CPU, and for other devices than CUDA, which it waits for at each mark."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def begin_pass(self) -> None:
        pass

    def mark(self) -> float:
        synchronize(self._device)
        return time.perf_counter()

    def between_ms(self, start: float, end: float) -> float:
        return (end - start) * 1e3


class _CudaClock:
    """Clock for CUDA: events in the stream, which do not synchronize until they are read."""

    def __init__(self) -> None:
        self._first_began: float | None = None
        self._wait_cycles = 0

    def begin_pass(self) -> None:
        """Let the GPU wait for one and a half times the duration of the first pass, which has no wait itself."""
        now = time.perf_counter()
        if self._first_began is None:
            self._first_began = now
            return
        if not self._wait_cycles:
            wait_s = min(1.5 * (now - self._first_began), _LONGEST_WAIT_S)
            self._wait_cycles = int(wait_s * _GPU_CYCLES_PER_S)
        torch.cuda._sleep(self._wait_cycles)  # type: ignore[no-untyped-call]

    def mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def between_ms(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return float(start.elapsed_time(end))


class LayerTimes:
    """Timer of every module without children, and of the optimizer.

    Args:
        network: Network to time; it has hooks until `detach`.
        device: Device of the network.
        optimizer: Optimizer to time, likewise; None for no time of an optimizer.
    """

    def __init__(self, network: nn.Module, device: torch.device, optimizer: Optimizer | None = None) -> None:
        self._device = device
        self._clock: _Clock = _CudaClock() if device.type == "cuda" else _HostClock(device)
        self._step = -1
        self._counts: dict[str, int] = {}
        self._started: dict[str, Any] = {}
        self._inputs: dict[str, set[Any]] = {}
        self._forward: dict[Call, list[tuple[Any, Any]]] = defaultdict(list)
        self._backward: dict[Call, dict[int, list[list[Any]]]] = defaultdict(lambda: defaultdict(list))
        self._allocated: dict[Call, int] = {}
        self._optimizer: list[list[Any]] = []
        self._handles: list[RemovableHandle] = []
        if optimizer is not None:
            self._handles.append(optimizer.register_step_post_hook(lambda *_: self._end_optimizer()))
        for name, module in network.named_modules():
            if next(module.children(), None) is None:
                self._handles.append(module.register_forward_pre_hook(self._before(name), prepend=True))
                self._handles.append(module.register_forward_hook(self._after(name)))

    def begin_step(self) -> None:
        """Start a new training step, before its forward pass."""
        self._step += 1
        self._counts.clear()
        self._clock.begin_pass()

    def begin_optimizer(self) -> None:
        """Start the time of the optimizer, after a backward pass; the end of its step ends it."""
        self._optimizer.append([self._clock.mark()])

    def _end_optimizer(self) -> None:
        if self._optimizer:
            self._optimizer[-1].append(self._clock.mark())

    def detach(self) -> None:
        """Remove all hooks from the network and the optimizer."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def medians(self) -> dict[Call, Measured]:
        """Return the medians of every call over the steps, in ms; synchronizes with the device once."""
        synchronize(self._device)
        return {call: self._median(call) for call in self._forward}

    def optimizer_ms(self) -> float | None:
        """Return the median time of the optimizer in ms, divided by the passes per step; None if it was not timed."""
        synchronize(self._device)
        times = [self._clock.between_ms(pair[0], pair[-1]) for pair in self._optimizer if len(pair) > 1]
        return statistics.median(times) * len(times) / (self._step + 1) if times else None

    def _median(self, call: Call) -> Measured:
        between = self._clock.between_ms
        forward = [between(start, end) for start, end in self._forward[call]]
        # The backward time of a call is the sum over its autograd nodes in each step.
        backward = [sum(between(*pair) for pair in pairs if len(pair) == 2) for pairs in self._backward[call].values()]
        return Measured(
            statistics.median(forward),
            statistics.median(backward) if backward else None,
            self._allocated.get(call),
        )

    def _before(self, name: str) -> Any:
        def hook(module: nn.Module, arguments: Any) -> None:
            if not module.training or not torch.is_grad_enabled():
                return
            self._inputs[name] = set(_graph_nodes(arguments))
            self._started[name] = self._clock.mark()

        return hook

    def _after(self, name: str) -> Any:
        def hook(_module: nn.Module, _arguments: Any, result: Any) -> None:
            start = self._started.pop(name, None)
            if start is None:
                return
            end = self._clock.mark()
            self._counts[name] = self._counts.get(name, 0) + 1
            call = (name, self._counts[name])
            self._forward[call].append((start, end))
            if self._device.type == "cuda" and self._step == 0:  # the same in every pass, and slow to read
                self._allocated[call] = torch.cuda.memory_allocated(self._device)
            for node in _between(self._inputs.pop(name), list(_graph_nodes(result))):
                self._time_node(node, call)

        return hook

    def _time_node(self, node: Any, call: Call) -> None:
        pair: list[Any] = []
        self._backward[call][self._step].append(pair)
        node.register_prehook(lambda _: pair.append(self._clock.mark()))
        node.register_hook(lambda *_: pair.append(self._clock.mark()))


def _graph_nodes(values: Any) -> Iterator[Any]:
    """Yield the autograd nodes that produced the tensors in a tree of values."""
    for leaf in tree_leaves(values):
        if isinstance(leaf, Tensor) and leaf.grad_fn is not None:
            yield leaf.grad_fn


def _between(inputs: set[Any], outputs: list[Any]) -> list[Any]:
    """Return the nodes between outputs and inputs, without those that accumulate a parameter's gradient."""
    found: list[Any] = []
    seen, open_nodes = set(inputs), outputs
    while open_nodes and len(found) < _MOST_NODES:
        node = open_nodes.pop()
        if node is None or node in seen or hasattr(node, "variable"):
            continue
        seen.add(node)
        found.append(node)
        open_nodes += [following for following, _ in node.next_functions]
    return found
