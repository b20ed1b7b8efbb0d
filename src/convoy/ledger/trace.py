"""Trace of one training forward pass over fake tensors: operations, memory and saved tensors of each layer.

Three observers follow the pass. Hooks on modules and on torch's functions find the running step. A dispatch mode sees
every ATen operation, which gives parameters, memory and MACs. `saved_tensors_hooks` sees the tensors that autograd
saves.
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
    """Trace a forward pass in training mode for each batch size. The model is not changed.

    Args:
        model: Network on any device, including meta.
        input_shape: Shape of one input, without the batch.
        batches: Batch sizes.
        precision: "32", "bf16-mixed" or "16-mixed".
        on_cuda: Whether mixed precision follows the rules of CUDA; otherwise those of the CPU.

    Returns:
        One pass per batch size.

    Raises:
        UntraceableError: The model needs tensor values to run, or refuses the input.
    """
    try:
        return [_run(model, input_shape, batch, precision, on_cuda) for batch in batches]
    except Exception as error:  # a model may fail in any way if tensors have no values
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UntraceableError(f"can't be traced without data ({reason})") from error


def _run(model: nn.Module, input_shape: Sequence[int], batch: int, precision: str, on_cuda: bool) -> Pass:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    # One copy per pass, since some models keep results of the first pass.
    copied = fake_copy(model, mode).train()
    recorder = ForwardRecorder(copied)
    with without_torchs_tracebacks(), mode, warnings.catch_warnings(), recorder.hooks(copied):
        warnings.simplefilter("ignore")
        images = torch.empty(batch, *input_shape)
        recorder.record_input(images)
        saved = torch.autograd.graph.saved_tensors_hooks(recorder.record_saved, lambda tensor: tensor)
        with (
            torch.enable_grad(),
            _Operations(recorder),
            _Functions(recorder),
            saved,
            autocast(precision, on_cuda=on_cuda),
        ):
            copied(images)
    return Pass(
        batch, recorder.finished_steps(), [name for name in recorder.parameters.values() if name not in recorder.used]
    )


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, recorder: ForwardRecorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recorder = recorder

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if tensors:
            self._recorder.record_operation(func, args, kwargs or {}, tensors)
        return result


class _Functions(TorchFunctionMode):
    def __init__(self, recorder: ForwardRecorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        recorder = self._recorder
        if recorder.is_whole:
            return func(*args, **(kwargs or {}))
        frame = Frame(recorder.frames[-1].module, function=getattr(func, "__name__", str(func)), whole=True)
        recorder.frames.append(frame)
        try:
            result = func(*args, **(kwargs or {}))
        finally:
            recorder.frames.pop()
        if frame.step is not None:
            recorder.close(frame.step, result)
        return result
