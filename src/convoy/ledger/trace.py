"""One training forward pass over fake tensors: which layer ran what, what it wrote, and what autograd keeps.

Three observers see the same pass. Hooks on the modules and on torch's functions tell whose turn it is; a dispatch
mode sees every operation of ATen, from which parameters, memory and MACs follow, so that nothing is missed,
whatever called it; `saved_tensors_hooks` sees what autograd keeps.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from convoy.ledger.autocast import autocast
from convoy.ledger.forward_recorder import ForwardRecorder, Frame, Pass
from convoy.ledger.rows import UntraceableError
from convoy.ledger.skeleton import fake_copy, without_torchs_tracebacks


def trace(
    model: nn.Module, input_shape: Sequence[int], batches: Sequence[int], precision: str, *, on_cuda: bool
) -> list[Pass]:
    """A pass in training mode for each of the batch sizes. The model stays as it is.

    Args:
        model: on any device, the meta device too.
        input_shape: of one input, without the batch.
        batches: sizes of the batches.
        precision: 32, bf16-mixed or 16-mixed.
        on_cuda: whether mixed precision follows CUDA's rules or the CPU's.

    Raises:
        UntraceableError: the model needs values to run, or refuses the input.
    """
    try:
        return [_run(model, input_shape, batch, precision, on_cuda) for batch in batches]
    except Exception as error:  # whatever a model does with values that aren't there
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise UntraceableError(f"it can't be followed without data ({said})") from error


def _run(model: nn.Module, input_shape: Sequence[int], batch: int, precision: str, on_cuda: bool) -> Pass:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    # A copy for each pass, since some models keep what they computed in the first.
    copied = fake_copy(model, mode).train()
    book = ForwardRecorder(copied)
    with without_torchs_tracebacks(), mode, warnings.catch_warnings(), book.hooks(copied):
        warnings.simplefilter("ignore")
        images = torch.empty(batch, *input_shape)
        book.open_with(images)
        saved = torch.autograd.graph.saved_tensors_hooks(book.save, lambda tensor: tensor)
        with torch.enable_grad(), _Operations(book), _Functions(book), saved, autocast(precision, on_cuda=on_cuda):
            copied(images)
    return Pass(batch, book.settled(), [name for name in book.parameters.values() if name not in book.used])


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, book: ForwardRecorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._book = book

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if tensors:
            self._book.operation(func, args, kwargs or {}, tensors)
        return result


class _Functions(TorchFunctionMode):
    def __init__(self, book: ForwardRecorder) -> None:
        super().__init__()
        self._book = book

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        book = self._book
        if book.is_whole:
            return func(*args, **(kwargs or {}))
        frame = Frame(book.frames[-1].module, function=getattr(func, "__name__", str(func)), whole=True)
        book.frames.append(frame)
        try:
            result = func(*args, **(kwargs or {}))
        finally:
            book.frames.pop()
        if frame.step is not None:
            book.close(frame.step, result)
        return result
