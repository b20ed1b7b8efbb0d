"""Compilation of the network: `trainer.compile`, and the choice between both forms with `trainer.compile=auto`."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from torch import nn

from convoy.config.batch import BatchSizes
from convoy.config.faults import Fault, UserError
from convoy.config.rules import COMPILE_AUTO, COMPILE_MODES
from convoy.records.console import Console
from convoy.runtime.devices import Devices, synchronize

CUDA_GRAPH_MODES = COMPILE_MODES[:2]
"""Modes that replay CUDA graphs."""

LARGEST_SHARE = 0.03
"""Share of the remaining training time that `auto` spends on compilation at most."""

WARM_UP_PASSES = 5
"""Forward and backward passes before a measurement: allocation, choice of algorithms, and compilation itself."""

MEASURED_PASSES = 20


def check_compilation(setting: bool | str, devices: Devices, sizes: BatchSizes) -> str:
    """Check that this machine can compile the network.

    Args:
        setting: trainer.compile.
        devices: devices of the run.
        sizes: division of the global batch.

    Returns:
        A notice if `auto` can't compile here; otherwise "".

    Raises:
        UserError: if this machine can't compile, or the mode can't be combined with accumulation.
    """
    if setting is False:
        return ""
    if setting in CUDA_GRAPH_MODES and devices.accelerator == "cuda" and sizes.accumulation > 1:
        # github.com/pytorch/pytorch/issues/169545
        rule = f"replays CUDA graphs, which can't accumulate gradients, and this run accumulates {sizes.accumulation}"
        remedy = "write trainer.compile=true, trainer.compile=max-autotune-no-cudagraphs, or a larger micro batch"
        raise UserError(Fault("trainer.compile", rule, remedy, _typed(setting)))
    if missing := _missing(devices):
        if setting == COMPILE_AUTO:
            return f"compile: auto is false, since torch.compile needs {missing}"
        remedy = "install it, or write trainer.compile=false"
        raise UserError(Fault("trainer.compile", f"torch.compile needs {missing}", remedy, _typed(setting)))
    return ""


def compile_network(network: nn.Module, setting: bool | str) -> None:
    """Compile a network in place, so that the names in its state dict stay the same; `auto` compiles later."""
    if setting is True:
        network.compile()
    elif setting and setting != COMPILE_AUTO:
        network.compile(mode=setting)


class CompileChoice(pl.Callback):
    """Lightning callback that compiles the network if that shortens the run.

    Training starts without compilation. Once the time per step is known, the network is compiled if the expected time
    of compilation is at most `LARGEST_SHARE` of the time that the remaining steps would take. If compiled steps are not
    faster, the network returns to its first form. A resumed run keeps the choice.

    Args:
        total_steps: optimizer steps of the run; None if unknown, in which case nothing is compiled.
        console: console of the run.
    """

    def __init__(self, total_steps: int | None, console: Console) -> None:
        self._total_steps = total_steps
        self._console = console
        self._is_compiled: bool | None = None
        self._stage: Callable[[pl.Trainer, Any], None] = self._after_eager
        self._durations: list[float] = []
        self._num_passes = 0
        self._eager_s = 0.0
        self._began = self._compilation_began = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"is_compiled": self._is_compiled}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._is_compiled = state_dict["is_compiled"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self._is_compiled:
            pl_module.network.compile()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self._is_compiled is None and self._num_passes >= WARM_UP_PASSES:
            synchronize(pl_module.device)
            self._began = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._is_compiled is not None:
            return
        self._num_passes += 1
        if self._num_passes <= WARM_UP_PASSES:
            return
        synchronize(pl_module.device)
        self._durations.append(time.perf_counter() - self._began)
        if len(self._durations) == MEASURED_PASSES:
            self._stage(trainer, pl_module)
            self._durations, self._num_passes = [], 0

    def _after_eager(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Compile the network if the remaining steps are worth it."""
        self._eager_s = self._agreed(trainer)
        expected_s = compilation_seconds(pl_module.network)
        micro_batches = _remaining(trainer, self._total_steps) * trainer.accumulate_grad_batches
        if expected_s > LARGEST_SHARE * micro_batches * self._eager_s:
            self._is_compiled = False
            steps = f"{_milliseconds(self._eager_s)} per pass are too short for {expected_s:.0f} s of compilation"
            self._console.say(f"compile: no, the remaining passes of {steps}")
            return
        self._stage = self._after_compiled
        self._compilation_began = time.perf_counter()
        pl_module.network.compile()

    def _after_compiled(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Keep the faster form."""
        compiled_s = self._agreed(trainer)
        spent = time.perf_counter() - self._compilation_began
        times = f"{_milliseconds(compiled_s)} compiled, {_milliseconds(self._eager_s)} before"
        self._is_compiled = compiled_s < self._eager_s
        if not self._is_compiled:
            pl_module.network._compiled_call_impl = None  # what nn.Module.compile has set
        answer = "yes" if self._is_compiled else "no"
        self._console.say(f"compile: {answer}, a pass takes {times}; compared for {spent:.0f} s")

    def _agreed(self, trainer: pl.Trainer) -> float:
        """Return the median duration of a pass on the first rank, in seconds, on all ranks."""
        return float(trainer.strategy.broadcast(statistics.median(self._durations)))


def compilation_seconds(network: nn.Module) -> float:
    """Return the expected time of the compilation of a network for training and evaluation.

    A rough estimate for empty caches. With caches from an earlier run, compilation takes a few seconds.
    """
    layers = sum(1 for module in network.modules() if next(module.children(), None) is None)
    return 20 + 1.0 * layers


def _remaining(trainer: pl.Trainer, total_steps: int | None) -> int:
    return 0 if total_steps is None else max(0, total_steps - trainer.global_step)


def _missing(devices: Devices) -> str:
    """Return what torch.compile lacks on this machine, or ""."""
    from torch.utils._triton import has_triton

    if devices.accelerator == "cuda" and not has_triton():
        return "Triton, and a GPU of compute capability 7.0 or higher"
    # The compiler that torch.compile uses by default (torch._inductor.config.cpp.cxx).
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    return "" if shutil.which(compiler) else f"the C++ compiler {compiler}"


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"


def _typed(setting: bool | str) -> str:
    return str(setting).lower()
