"""What a training allocates and frees, storage by storage, in order: who asked for it, in which phase, for what."""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from convoy.planner.convolutions import Convolution

HOST = "host"
"""The category of what lies in the host's memory whatever the device: left out of a recording."""

CUBLAS_BYTES = 4096 * 1024 * 2 + 16 * 1024 * 8
"""What a thread's cuBLAS handle holds from its first product on: CUBLAS_WORKSPACE_CONFIG's default :4096:2:16:8
(aten/src/ATen/cuda/CublasHandlePool.cpp). The backward pass is a thread of its own. Hopper's is 32 MiB."""

WORKSPACE = "cudnn_workspace"
"""The category of what a convolution's kernel takes while it runs. Its size is the card's matter: it is recorded with
0 bytes, and its operation is the convolution's signature: whatever decides of the kernel but the micro batch."""

_HALVES = (torch.bfloat16, torch.float16)
_PRODUCTS = frozenset({"mm", "addmm", "bmm", "baddbmm", "addmv", "mv"})


@dataclass(slots=True)
class Storage:
    """A piece of memory that lived for a while.

    Attributes:
        bytes: as asked for, without rounding.
        category: parameters, buffers, gradients, optimizer_state, activations, …
        module: on whose behalf; of the backward pass, whose forward it is the gradient of.
        phase: during which it was allocated.
        operation: of ATen, that made it.
    """

    bytes: int
    category: str
    module: str
    phase: str
    operation: str


@dataclass(frozen=True)
class Recording:
    """All allocations and frees of a training.

    Attributes:
        batch: samples of a micro batch.
        storages: by number.
        events: a storage's number where it is allocated, its complement (~number) where it is freed.
    """

    batch: int
    storages: list[Storage]
    events: list[int]

    def sizes(self) -> list[int]:
        """Bytes by number."""
        return [storage.bytes for storage in self.storages]


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation of ATen under it, and each storage that is made and given up.

    Args:
        on_cuda: whether the workspaces of CUDA's libraries are recorded too.

    Attributes:
        phase: what is told of the storages made from now on, like the next.
        category: what they are, unless `mark` says otherwise.
    """

    def __init__(self, *, on_cuda: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.phase = self.category = "setup"
        self._on_cuda = on_cuda
        self._storages: list[Storage] = []
        self._events: list[int] = []
        self._live: dict[int, tuple[int, Any]] = {}
        self._stack = [""]
        self._sequence: list[int] = []
        self._callers: list[str] = []
        self._threads_with_handle: set[bool] = set()
        self._closed = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and self.category == "temporaries":
            # Optimizers ask for their step's number, which is no matter for memory; a network must not ask.
            return torch.ones((), dtype=args[0].dtype, device="cpu").tolist() if _is_real(args[0]) else 1
        if not self._on_cuda and func is torch.ops.aten.mean.dim and args[0].dtype in _HALVES:
            return self._mean_on_the_cpu(*args, **(kwargs or {}))
        if self._on_cuda and (convolution := Convolution.of(func, args)) is not None:
            self._pass_by(0, WORKSPACE, convolution.signature)
        result = func(*args, **(kwargs or {}))
        backward = torch._C._current_graph_task_id() != -1
        name = func._schema.name
        if self._on_cuda and name[6:] in _PRODUCTS and backward not in self._threads_with_handle:
            self._threads_with_handle.add(backward)
            self._allocate(CUBLAS_BYTES, "cublas_workspace", "", name)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf, name, backward=backward)
        if not self._on_cuda and func is torch.ops.aten.convolution_backward.default:
            # oneDNN adds up the gradient of the weights in a float32 copy of its own.
            self._pass_by(4 * args[2].numel(), self.category, name)
        return result

    def hold(self, tensors: Iterable[Tensor], category: str, module: str = "") -> None:
        """Record tensors that are there already, in order."""
        for tensor in tensors:
            self._see(tensor, "", category=category, module=module)

    def mark(self, tensor: Tensor, category: str) -> None:
        """Tell what a tensor is, from its beginning."""
        known = self._live.get(_key(tensor))
        if known is not None:
            self._storages[known[0]].category = category

    @contextmanager
    def following(self, network: nn.Module) -> Iterator[None]:
        """Tell which of a network's modules is at work."""
        names = {module: name for name, module in network.named_modules()}

        def enter(module: nn.Module, _: Any) -> None:
            self._stack.append(names[module])
            self._note_caller()

        def leave(_: nn.Module, __: Any, ___: Any) -> None:
            self._stack.pop()
            self._note_caller()

        handles = [module.register_forward_pre_hook(enter) for module in names]
        handles += [module.register_forward_hook(leave) for module in names]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def place(self) -> tuple[int, set[int]]:
        """How far the recording has come, and which storages are there."""
        return len(self._events), {number for number, _ in self._live.values()}

    def repeat(self, since: tuple[int, set[int]], phase_of: Callable[[str], str]) -> bool:
        """Record all that happened since a place once more, if it left as it found: whether that could be done.

        Args:
            since: a place.
            phase_of: of a phase, its name in the repetition.
        """
        begin, there = since
        if self.place()[1] != there:
            return False
        copies: dict[int, int] = {}
        for event in self._events[begin:]:
            if event >= 0:
                storage = self._storages[event]
                self._storages.append(replace(storage, phase=phase_of(storage.phase)))
                copies[event] = len(self._storages) - 1
            self._events.append(copies[event] if event >= 0 else ~copies[~event])
        return True

    def recording(self, batch: int) -> Recording:
        """What was seen; from now on nothing is."""
        self._closed = True
        self._live.clear()
        kept = {number: index for index, number in enumerate(self._on_device())}
        events = [
            kept[event] if event >= 0 else ~kept[~event]
            for event in self._events
            if (event if event >= 0 else ~event) in kept
        ]
        return Recording(batch, [self._storages[number] for number in kept], events)

    def _mean_on_the_cpu(self, tensor: Tensor, dims: Any, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
        """The CPU's mean of half-precision numbers goes by way of a copy in float32
        (aten/src/ATen/native/ReduceOps.cpp)."""
        with self:
            return tensor.float().mean(dims, keepdim).to(dtype or tensor.dtype)

    def _pass_by(self, size: int, category: str, operation: str) -> None:
        """What an operation takes for itself and gives back when it is done."""
        number = self._allocate(
            size, category, self._module(backward=torch._C._current_graph_task_id() != -1), operation
        )
        self._events.append(~number)

    def _on_device(self) -> Iterator[int]:
        for number, storage in enumerate(self._storages):
            if (storage.bytes or storage.category == WORKSPACE) and storage.category != HOST:
                yield number

    def _note_caller(self) -> None:
        """From this node of the graph on, it is this module's: the backward pass asks whose a node is."""
        if torch._C._current_graph_task_id() == -1:
            self._sequence.append(torch._C._autograd._get_sequence_nr())
            self._callers.append(self._stack[-1])

    def _module(self, *, backward: bool) -> str:
        if not backward or len(self._stack) > 1:
            return self._stack[-1]
        node = torch._C._current_autograd_node()
        if node is None:
            return ""
        index = bisect_right(self._sequence, node._sequence_nr()) - 1
        return self._callers[index] if index >= 0 else ""

    def _see(
        self, tensor: Tensor, operation: str, category: str = "", module: str | None = None, *, backward: bool = False
    ) -> None:
        storage = tensor.untyped_storage()
        key = int(storage._cdata)
        if key in self._live:
            return
        module = self._module(backward=backward) if module is None else module
        number = self._allocate(storage.nbytes(), category or self.category, module, operation)
        self._live[key] = number, weakref.ref(storage, lambda _: self._gone(key, number))

    def _allocate(self, size: int, category: str, module: str, operation: str) -> int:
        self._storages.append(Storage(size, category, module, self.phase, operation))
        self._events.append(len(self._storages) - 1)
        return len(self._storages) - 1

    def _gone(self, key: int, number: int) -> None:
        if self._closed:
            return
        del self._live[key]
        self._events.append(~number)


def _is_real(tensor: Tensor) -> bool:
    return type(tensor) is Tensor


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
