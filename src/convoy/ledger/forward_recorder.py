"""Recorder of a forward pass: the running step, the step that wrote each storage, and the saved tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from convoy.ledger.channel_order import is_channels_last, mark_channels_last
from convoy.ledger.macs import macs_of
from convoy.ledger.windows import Window, window_of

Key = int
"""Address of a storage. All storages of a pass are kept alive, so that no address is reused."""

_NORMS = frozenset({"native_batch_norm", "native_layer_norm", "native_group_norm"})

_MIXING = frozenset({"mm", "addmm", "bmm", "mean", "sum", "_adaptive_avg_pool2d", "adaptive_max_pool2d", "_softmax"})
"""Operations after which a position depends on the whole image. Those with attention in their name do too."""


@dataclass(frozen=True)
class Output:
    """Tensor that a step returned; `channels_last` if it is (N, H, W, C)."""

    shape: tuple[int, ...]
    bytes: int
    storage: Key
    channels_last: bool


@dataclass
class Step:
    """Call of a module without children, or of a function outside such a module. It becomes a row of the ledger.

    Attributes:
        index: Position among the steps.
        module: Name of the module; for a function, of the module that called it.
        layer: The module, if the step is the call of a module without children.
        function: Name of the function, if the step is a function call.
        call: Number of this call of the module, from 1.
        outputs: Returned tensors.
        reads: Storages of other steps that the step read, in order.
        writes: Bytes of each storage that the step allocated.
        changes: Storages of other steps that the step changed in place.
        parameters: Parameters that no earlier step used.
        windows: Windows of the operations, in order.
        mixes: Whether every output position depends on every input position.
    """

    index: int
    module: str
    layer: nn.Module | None = None
    function: str = ""
    call: int = 1
    outputs: list[Output] = field(default_factory=list)
    reads: dict[Key, None] = field(default_factory=dict)
    writes: dict[Key, int] = field(default_factory=dict)
    changes: set[Key] = field(default_factory=set)
    parameters: list[str] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    mixes: bool = False
    macs: int = 0
    backward_macs: int = 0
    saved_bytes: int = 0
    saved_index_bytes: int = 0
    weight_copy_bytes: int = 0


@dataclass
class Pass:
    """Steps of one forward pass; the first step is the input."""

    batch: int
    steps: list[Step] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


@dataclass
class Frame:
    """Running call. If `whole`, the call and everything inside it form one step."""

    module: str
    layer: nn.Module | None = None
    function: str = ""
    whole: bool = False
    step: Step | None = None


class ForwardRecorder:
    """Recorder of a forward pass: the running step, the step that wrote each storage, and the saved tensors."""

    def __init__(self, model: nn.Module) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        self.parameters = {_key(parameter): name for name, parameter in model.named_parameters()}
        self.state = set(self.parameters) | {_key(buffer) for buffer in model.buffers()}
        self.used: set[str] = set()
        self.steps: list[Step] = []
        self.frames: list[Frame] = [Frame("")]
        self._calls: dict[nn.Module, int] = {}
        self._owner: dict[Key, int] = {}
        self._weight_copies: set[Key] = set()
        self._kept: dict[Key, tuple[Tensor, int]] = {}
        self._sizes: dict[Key, int] = {}
        # A model may replace a buffer during a pass.
        self._alive: list[Any] = [tensor.untyped_storage() for tensor in (*model.parameters(), *model.buffers())]

    def record_input(self, images: Tensor) -> None:
        """Record the input as the first step."""
        self.steps.append(Step(0, ""))
        self._write(self.steps[0], images)
        self.steps[0].outputs.append(_output(images))

    @contextmanager
    def hooks(self, model: nn.Module) -> Iterator[None]:
        """Record the call of every module while the context lasts."""
        handles = []
        for module in model.modules():
            handles.append(module.register_forward_pre_hook(self._enter))
            handles.append(module.register_forward_hook(self._leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, arguments: Any) -> None:
        whole = self.is_whole or next(module.children(), None) is None
        self.frames.append(Frame(self.names[module], module, whole=whole))

    def _leave(self, module: nn.Module, arguments: Any, result: Any) -> None:
        frame = self.frames.pop()
        if frame.step is not None and not self.is_whole:
            self.close(frame.step, result)

    @property
    def is_whole(self) -> bool:
        """Whether the current operation belongs to a step that has begun or will begin with it."""
        return self.frames[-1].whole

    def close(self, step: Step, result: Any) -> None:
        """Record the result of a step's call."""
        step.outputs = [_output(leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]

    def record_operation(
        self, func: Any, arguments: Sequence[Any], keywords: dict[str, Any], results: list[Tensor]
    ) -> None:
        """Record an ATen operation and its results."""
        name = func._schema.name.partition("::")[2]
        inputs = {_key(leaf): leaf for leaf in tree_leaves((arguments, keywords)) if isinstance(leaf, Tensor)}
        mark_channels_last(name, arguments, list(inputs.values()), results)
        alone = not self.is_whole
        step = self._current(name)
        self._charge(step, name, inputs.keys(), results, changes=func._schema.is_mutable)
        macs, backward_macs = macs_of(name, arguments, results)
        step.macs += macs
        step.backward_macs += backward_macs
        window = window_of(name, arguments, keywords)
        step.windows += [window] if window else []
        step.mixes = step.mixes or name in _MIXING or "attention" in name
        if alone:
            self.close(step, results)

    def _charge(self, step: Step, name: str, inputs: Set[Key], results: list[Tensor], *, changes: bool) -> None:
        """Record the reads and writes of an operation. A view reads nothing; the operation that uses the view does."""
        for result in results:
            key = _key(result)
            if key not in self._owner and key not in self.state and key not in inputs:
                self._write(step, result)
                if name == "_to_copy" and inputs & self.parameters.keys():
                    self._weight_copies.add(key)
            elif changes and key not in step.writes:
                step.changes.add(key)
        if changes or any(_key(result) not in inputs for result in results):
            for key in inputs:
                self._read(step, key)
        if name in _NORMS:
            # The statistics of a norm are float32 for any input; the fake operations return them in its precision.
            self._sizes.update((_key(result), 4 * result.numel()) for result in results[1:])

    def record_saved(self, tensor: Tensor) -> Tensor:
        """Record a tensor that autograd saves for the backward pass."""
        key = _key(tensor)
        if key not in self.state and key not in self._kept:
            self._kept[key] = (tensor, len(self.steps) - 1)
            self._alive.append(tensor.untyped_storage())
        return tensor

    def finished_steps(self) -> list[Step]:
        """Return the steps, without those that only use buffers. Saved bytes count for the step that wrote them."""
        for key, (tensor, saver) in self._kept.items():
            step = self.steps[self._owner.get(key, saver)]
            size = self._sizes.get(key, tensor.untyped_storage().nbytes())
            if key in self._weight_copies:
                step.weight_copy_bytes += size
            else:
                step.saved_bytes += size
                step.saved_index_bytes += 0 if tensor.is_floating_point() or tensor.is_complex() else size
        return [
            step
            for step in self.steps
            if step.parameters or step.saved_bytes or any(output.storage not in self.state for output in step.outputs)
        ]

    def _current(self, operation: str) -> Step:
        """Return the running step; an operation outside any step becomes a step."""
        frame = next((frame for frame in self.frames if frame.whole), None)
        if frame is None:
            self.steps.append(Step(len(self.steps), self.frames[-1].module, function=operation))
            return self.steps[-1]
        if frame.step is None:
            call = 1
            if frame.layer is not None:
                call = self._calls[frame.layer] = self._calls.get(frame.layer, 0) + 1
            frame.step = Step(len(self.steps), frame.module, frame.layer, frame.function, call)
            self.steps.append(frame.step)
        return frame.step

    def _write(self, step: Step, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        step.writes[_key(tensor)] = storage.nbytes()
        self._owner[_key(tensor)] = step.index
        self._alive.append(storage)

    def _read(self, step: Step, key: Key) -> None:
        name = self.parameters.get(key)
        if name is not None and name not in self.used:
            self.used.add(name)
            step.parameters.append(name)
        if key in self._owner and key not in step.writes:
            step.reads[key] = None


def _key(tensor: Tensor) -> Key:
    return int(tensor.untyped_storage()._cdata)


def _output(tensor: Tensor) -> Output:
    return Output(tuple(tensor.shape), tensor.numel() * tensor.element_size(), _key(tensor), is_channels_last(tensor))
