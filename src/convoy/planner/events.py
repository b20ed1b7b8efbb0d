"""Recorder of the allocations and frees of a training, with their module, phase and category."""

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

from convoy.planner.convolutions import Convolution, copied_bytes

HOST = "host"
"""Category of storages in host memory on any device. They are not part of a recording."""

CUBLAS_BYTES = 4096 * 1024 * 2 + 16 * 1024 * 8
"""Size of a cuBLAS handle's workspace per thread: the default of CUBLAS_WORKSPACE_CONFIG, :4096:2:16:8
(aten/src/ATen/cuda/CublasHandlePool.cpp). The backward pass runs in a separate thread. On Hopper it is 32 MiB."""

WORKSPACE = "cudnn_workspace"
"""Category of the workspace of a convolution's kernel. Its size depends on the GPU, so that it is recorded with 0
bytes. Its operation is the signature of the convolution."""

_LOSSES = (torch.ops.aten.mse_loss.default, torch.ops.aten.smooth_l1_loss.default)
"""Losses whose mean or sum has a storage for the losses of all elements: ATen allocates the result in this size and
then resizes it, which frees nothing (TORCH_META_FUNC in aten/src/ATen/native/BinaryOps.cpp). The losses themselves are
in a temporary of the same size."""

_HALVES = (torch.bfloat16, torch.float16)
_PRODUCTS = frozenset({"mm", "addmm", "bmm", "baddbmm", "addmv", "mv"})


@dataclass(slots=True)
class Storage:
    """Memory of a tensor, from its allocation to its free.

    Attributes:
        bytes: Requested bytes, without rounding.
        category: "parameters", "buffers", "gradients", "optimizer_state", "activations", …
        module: Module that allocated it; in the backward pass, the module whose gradient it belongs to.
        phase: Phase of the training during the allocation.
        operation: ATen operation that allocated it.
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
        batch: Samples per micro batch.
        storages: Storages by number.
        events: Number of a storage for its allocation, and the complement (~number) for its free.
    """

    batch: int
    storages: list[Storage]
    events: list[int]

    def sizes(self) -> list[int]:
        """Return the bytes by storage number."""
        return [storage.bytes for storage in self.storages]


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Dispatch mode that records every storage that an ATen operation allocates, and its free.

    Args:
        on_cuda: Whether the workspaces of CUDA's libraries are recorded too.

    Attributes:
        phase: Phase of the storages allocated from now on.
        category: Category of the storages allocated from now on; see `mark` for exceptions.
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
            # Optimizers read their step count, which does not affect memory. A network must not read values.
            return torch.ones((), dtype=args[0].dtype, device="cpu").tolist() if _is_real(args[0]) else 1
        if not self._on_cuda and func is torch.ops.aten.mean.dim and args[0].dtype in _HALVES:
            return self._mean_on_the_cpu(*args, **(kwargs or {}))
        result = func(*args, **(kwargs or {}))
        backward = torch._C._current_graph_task_id() != -1
        name = func._schema.name
        if self._on_cuda and name[6:] in _PRODUCTS and backward not in self._threads_with_handle:
            self._threads_with_handle.add(backward)
            self._allocate(CUBLAS_BYTES, "cublas_workspace", "", name)
        of_elements = args[0].nbytes if func in _LOSSES and result.dim() == 0 else 0
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf, name, backward=backward, size=of_elements)
        temporaries = [(of_elements, "temporaries", name)] if of_elements else []
        if copied := copied_bytes(func, args):
            temporaries.append((copied, "temporaries", name))
        if self._on_cuda and (convolution := Convolution.of(func, args)) is not None:
            # ATen allocates the results before the workspace (cudnn_convolution in aten/src/ATen/native/cudnn).
            temporaries.append((0, WORKSPACE, convolution.signature))
        if not self._on_cuda and func is torch.ops.aten.convolution_backward.default:
            # oneDNN sums the gradient of the weights in a float32 copy.
            temporaries.append((4 * args[2].numel(), self.category, name))
        if temporaries:
            self._pass_by(temporaries)
        return result

    def hold(self, tensors: Iterable[Tensor], category: str, module: str = "") -> None:
        """Record existing tensors, in order."""
        for tensor in tensors:
            self._see(tensor, "", category=category, module=module)

    def mark(self, tensor: Tensor, category: str) -> None:
        """Set the category of a tensor's storage, also for the past."""
        known = self._live.get(_key(tensor))
        if known is not None:
            self._storages[known[0]].category = category

    @contextmanager
    def following(self, network: nn.Module) -> Iterator[None]:
        """Record the running module of a network while the context lasts."""
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
        """Return the position in the recording and the live storages."""
        return len(self._events), {number for number, _ in self._live.values()}

    def repeat(self, since: tuple[int, set[int]], phase_of: Callable[[str], str]) -> bool:
        """Record the events since a position once more, if the live storages are the same as then.

        Args:
            since: Position from `place`.
            phase_of: Function that maps a phase to its name in the repetition.

        Returns:
            Whether the events were repeated.
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
        """Return the recording and stop recording."""
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
        """Compute a mean as the CPU does in half precision, by way of a float32 copy.

        Source: aten/src/ATen/native/ReduceOps.cpp.
        """
        with self:
            return tensor.float().mean(dims, keepdim).to(dtype or tensor.dtype)

    def _pass_by(self, temporaries: Iterable[tuple[int, str, str]]) -> None:
        """Record temporaries, each (bytes, category, operation), that an operation allocates and then frees."""
        module = self._module(backward=torch._C._current_graph_task_id() != -1)
        numbers = [self._allocate(size, category, module, operation) for size, category, operation in temporaries]
        self._events.extend(~number for number in numbers)

    def _on_device(self) -> Iterator[int]:
        for number, storage in enumerate(self._storages):
            if (storage.bytes or storage.category == WORKSPACE) and storage.category != HOST:
                yield number

    def _note_caller(self) -> None:
        """Store the running module with the next node of the autograd graph, for the backward pass."""
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
        self,
        tensor: Tensor,
        operation: str,
        category: str = "",
        module: str | None = None,
        *,
        backward: bool = False,
        size: int = 0,
    ) -> None:
        storage = tensor.untyped_storage()
        key = int(storage._cdata)
        if key in self._live:
            return
        module = self._module(backward=backward) if module is None else module
        number = self._allocate(size or storage.nbytes(), category or self.category, module, operation)
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
