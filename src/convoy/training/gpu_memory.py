"""A run's GPU memory: the micro batch that fits, and the predicted peak beside the measured one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import pytorch_lightning as pl
import torch

from convoy.config.batch import BatchSizes, divide
from convoy.config.faults import Fault, UserError
from convoy.config.schema import Config, HardwareConfig
from convoy.ledger.rows import UntraceableError
from convoy.runtime.devices import Devices

if TYPE_CHECKING:
    from convoy.planner.memory_plan import Plan

USUAL_CONTEXT_BYTES = 512 * 2**20
"""Memory of the CUDA context and libraries if hardware.context_bytes is not set; users report 290 to 670 MiB."""


class Counters(Protocol):
    """CUDA's counters of this process's memory; see `CudaCounters`."""

    def reset(self) -> None: ...

    def read(self) -> Measured: ...


@dataclass(frozen=True)
class Measured:
    """Peaks since the last reset.

    Attributes:
        allocated_bytes: the most in tensors.
        reserved_bytes: the most that the caching allocator held.
        device_bytes: in use on the card now, by its driver: of all processes together.
    """

    allocated_bytes: int
    reserved_bytes: int
    device_bytes: int


class CudaCounters:
    """Those of the current device."""

    def reset(self) -> None:
        torch.cuda.reset_peak_memory_stats()

    def read(self) -> Measured:
        free, total = torch.cuda.mem_get_info()
        return Measured(torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(), total - free)


class PeakMemory(pl.Callback):
    """Measures the peak of training: until the first validation, which has a separate peak.

    Attributes:
        measured: None before it is known.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self.measured: Measured | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._counters.reset()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._take(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._take(trainer)

    def _take(self, trainer: pl.Trainer) -> None:
        if self.measured is None and trainer.global_step:
            self.measured = self._counters.read()


def sizes_for(config: Config, devices: Devices, total_bytes: int | None = None) -> tuple[BatchSizes, str]:
    """Return the division of the global batch on these devices, and a notice about it, often empty.

    Args:
        config: whose trainer.micro_batch_size may be auto.
        devices: where it trains.
        total_bytes: memory of the GPU; None: asked of it.

    Raises:
        UserError: the batch doesn't divide, or not even one image is predicted to fit.
    """
    trainer, micro = config.trainer, config.trainer.micro_batch_size
    if micro != "auto":
        return divide(trainer.global_batch_size, micro, devices.world_size), ""
    whole = divide(trainer.global_batch_size, None, devices.world_size)
    if devices.accelerator != "cuda":
        return whole, "micro batch: auto is the whole batch of each rank on the CPU"
    from convoy.planner.plan_table import gib, needed

    plan = plan_on(config, devices, total_bytes or _total_bytes(), margin=config.plan.margin)
    if plan.fitting is None:
        rule = f"finds none that fits into {gib(plan.usable_bytes)}"
        remedy = "choose trainer.precision=bf16-mixed or 16-mixed, a smaller data.image_size, or another card"
        raise UserError(Fault("trainer.micro_batch_size", rule, remedy, "auto"))
    found = plan.fitting
    steps = f" x {found.accumulation} accumulation steps" if found.accumulation > 1 else ""
    figures = f"{needed(plan)} of {gib(plan.usable_bytes)} predicted"
    compiled = " without trainer.compile" if trainer.compile else ""
    return found, f"micro batch: auto is {found.micro_batch_size}{steps}, {figures}{compiled}"


def plan_on(config: Config, devices: Devices, total_bytes: int, *, margin: float = 0.0) -> Plan:
    """Return the prediction for the devices that a run has.

    Args:
        config: of the run.
        devices: where it trains.
        total_bytes: memory of one GPU.
        margin: share of it that the prediction leaves free.

    Raises:
        UserError: the training can't be followed without data.
    """
    from convoy.planner.calibration import calibration_of
    from convoy.planner.memory_plan import Planner

    hardware = config.hardware
    measured = calibration_of(config.output_root, hardware.name)
    card = replace(
        hardware,
        accelerator="gpu",
        precision="32" if devices.precision == "32-true" else devices.precision,
        usable_bytes=total_bytes,
        context_bytes=USUAL_CONTEXT_BYTES if hardware.context_bytes is None else hardware.context_bytes,
    )
    own = replace(measured, usable_bytes=None)
    gpus = replace(config.trainer, gpus=devices.per_node, nodes=devices.nodes)
    return Planner(replace(config, trainer=gpus)).plan(_named(card, devices), own, margin=margin)


def comparison(config: Config, devices: Devices, measured: Measured | None) -> dict[str, Any]:
    """Predicted and measured peaks of a run on CUDA, and the error in percent, for its summary; nothing elsewhere."""
    if devices.accelerator != "cuda" or measured is None:
        return {}
    found: dict[str, Any] = {
        "memory/allocated_measured_bytes": measured.allocated_bytes,
        "memory/reserved_measured_bytes": measured.reserved_bytes,
        "memory/device_measured_bytes": measured.device_bytes,
    }
    if config.trainer.compile:
        return found
    try:
        plan = plan_on(config, devices, _total_bytes())
    except (UserError, UntraceableError):
        return found
    predictions = {
        "allocated": (plan.peak.allocated_bytes, measured.allocated_bytes),
        "reserved": (plan.peak.reserved_bytes, measured.reserved_bytes),
        "device": (plan.device_total_bytes, measured.device_bytes),
    }
    for name, (predicted, truth) in predictions.items():
        if predicted is not None and truth:
            found[f"memory/{name}_predicted_bytes"] = predicted
            found[f"memory/{name}_error_percent"] = round(100 * (predicted / truth - 1), 2)
    return found


def _named(card: HardwareConfig, devices: Devices) -> HardwareConfig:
    return replace(card, name=devices.name)


def _total_bytes() -> int:
    return int(torch.cuda.get_device_properties(0).total_memory)
