"""Trace of five training steps of ResNet-18 by torch.profiler, and the time in which the GPU has nothing to do.

The traces are written to outputs/gpu and open in https://ui.perfetto.dev.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.photos import write_folder
from convoy.commands.main import main as convoy

FIRST, STEPS = 20, 5
FOLDER = Path("outputs/gpu")


class ProfileSteps(pl.Callback):
    """Lightning callback that profiles `STEPS` optimizer steps from step `FIRST` on."""

    recorded: profile | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Begin to record."""
        if trainer.global_step == FIRST:
            kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
            type(self).recorded = profile(activities=kinds)
            type(self).recorded.start()

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """End the record."""
        if trainer.global_step == FIRST + STEPS and type(self).recorded is not None:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            type(self).recorded.stop()


def gaps_us(spans: Sequence[tuple[float, float]]) -> list[float]:
    """Return the lengths of the gaps between spans, which may overlap.

    Args:
        spans: starts and ends in µs.
    """
    found, latest = [], None
    for start, end in sorted(spans):
        if latest is not None and start > latest:
            found.append(start - latest)
        latest = end if latest is None else max(latest, end)
    return found


def figures(device: str) -> Iterator[tuple[str, object]]:
    """Yield the busy and idle µs of the GPU per step, and its longest gap, with images in memory and in a folder."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as root:
        write_folder(Path(root, "photos"), 1024 if device == "cuda" else 64)
        model, batch, side = ("resnet18", 64, 224) if device == "cuda" else ("lenet5", 4, 32)
        runs = {
            "memory": ["data=digits", "data.channels=3", "data.image_size=32"],
            "folder": ["data=image_folder", f"data.root={root}/photos", f"data.image_size={side}"],
        }
        for name, words in runs.items():
            common = [f"model={model}", f"trainer.global_batch_size={batch}", f"trainer.max_steps={FIRST + STEPS + 2}"]
            common += ["logger=csv", "trainer.test=false", "ledger.measure_steps=0", "trainer.log_every_steps=100"]
            common += [f"trainer.gpus={1 if device == 'cuda' else 0}", f"folder={root}/{name}"]
            target = "+callback.trace._target_=benchmarks.gpu.trace.ProfileSteps"
            if (code := convoy(["train", *words, *common, target])) != 0:
                raise SystemExit(f"the run of {name} ended with exit code {code}")
            recorded = ProfileSteps.recorded
            assert recorded is not None, "the steps were profiled"
            recorded.export_chrome_trace(str(FOLDER / f"{name}.json.gz"))
            events = [event for event in recorded.events() if event.device_type == DeviceType.CUDA]
            spans = [(event.time_range.start, event.time_range.end) for event in events]
            yield f"{name}, kernels per step", len(spans) / STEPS
            idle = gaps_us(spans)
            if spans:
                whole = max(end for _, end in spans) - min(start for start, _ in spans)
                yield f"{name}, whole, µs per step", whole / STEPS
                yield f"{name}, idle, µs per step", sum(idle) / STEPS
                yield f"{name}, longest gap, µs", max(idle, default=0.0)
