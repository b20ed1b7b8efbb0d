"""Lightning callback that times the parts of a step and records a trace with torch's profiler."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from torch.profiler import ProfilerActivity, profile

from convoy.records.console import Console
from convoy.runs.layout import RunFolder, shown
from convoy.runs.whole_files import replace_text
from convoy.runtime.devices import synchronize

SKIPPED_STEPS = 5
"""First steps, in which memory is allocated and kernels are chosen."""

TRACED_STEPS = 5
PARTS = ("data", "forward and loss", "backward", "optimizer", "rest")
_OPERATIONS = 15


class StepProfile(pl.Callback):
    """Lightning callback that writes profile.txt and trace.json, and prints the time of each part of a step.

    The parts are timed in steps without the profiler, which slows them down. Between two parts the device is
    synchronized, so that the time of a kernel counts in its part.

    Args:
        run: folder of the run.
        num_steps: optimizer steps that are timed.
        console: of the run.
    """

    def __init__(self, run: RunFolder, num_steps: int, console: Console) -> None:
        self._run, self._num_steps, self._console = run, num_steps, console
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._timed_steps, self._steps = 0, 0
        self._since = self._waited = 0.0
        self._profiler: Any = None
        self._is_written = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._since = 0.0  # the validation before is no part of a step

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        # Between two batches the loader waits for data, and callbacks log and move the schedule.
        waited = getattr(trainer.datamodule, "waited_s", 0.0)  # type: ignore[attr-defined]
        data, self._waited = waited - self._waited, waited
        self._lap(pl_module, "rest", less=data)
        if self._is_timing:
            self._seconds["data"] += data

    def on_before_backward(self, trainer: pl.Trainer, pl_module: Any, loss: Any) -> None:
        self._lap(pl_module, "forward and loss")

    def on_after_backward(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._lap(pl_module, "backward")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._lap(pl_module, "optimizer")
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        self._timed_steps += self._is_timing
        self._steps += 1
        if self._steps == SKIPPED_STEPS + self._num_steps:
            activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (pl_module.device.type == "cuda")
            self._profiler = profile(activities=activities, record_shapes=True)
            self._profiler.__enter__()
        elif self._steps == SKIPPED_STEPS + self._num_steps + TRACED_STEPS:
            self._end_trace()

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._end_trace()
        if not self._timed_steps:
            self._console.say(f"no profile: the run has not more than {SKIPPED_STEPS} steps; raise trainer.max_steps")

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        if self._profiler is not None:
            self._profiler.__exit__(None, None, None)

    @property
    def _is_timing(self) -> bool:
        return SKIPPED_STEPS <= self._steps < SKIPPED_STEPS + self._num_steps

    def _lap(self, pl_module: Any, part: str, less: float = 0.0) -> None:
        """Count the time since the last call for a part."""
        synchronize(pl_module.device)
        now = time.perf_counter()
        if self._is_timing and self._since:
            self._seconds[part] += now - self._since - less
        self._since = now

    def _end_trace(self) -> None:
        if self._is_written or not self._timed_steps:
            return
        text = parts_text(self._seconds, self._timed_steps)
        self._console.say(text)
        if self._profiler is not None:
            self._profiler.__exit__(None, None, None)
            self._profiler.export_chrome_trace(str(self._run.path / "trace.json"))
            events = self._profiler.key_averages()
            kind = "device" if any(event.self_device_time_total for event in events) else "cpu"
            text += f"\n\n{events.table(sort_by=f'self_{kind}_time_total', row_limit=_OPERATIONS)}"
            self._console.say(f"{shown(self._run.path)}/  profile.txt  trace.json (for https://ui.perfetto.dev)")
        replace_text(self._run.path / "profile.txt", text + "\n")
        self._profiler, self._is_written = None, True


def parts_text(seconds: Mapping[str, float], num_steps: int) -> str:
    """Return a table of the time of each part per step and its share.

    Args:
        seconds: total time by part.
        num_steps: steps in which it was measured.
    """
    total = sum(seconds.values()) or 1.0
    lines = [f"{'part of a step':<18}{'ms':>9}{'share':>8}"]
    lines += [f"{part:<18}{value / num_steps * 1e3:9.3f}{value / total:8.0%}" for part, value in seconds.items()]
    return "\n".join([*lines, f"{'together':<18}{total / num_steps * 1e3:9.3f}{1:8.0%}"])
