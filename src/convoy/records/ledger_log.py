"""Ledger of a run in its folder and in W&B, written at the start and again with measured times."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from convoy.config.run_length import RunLength
from convoy.config.schema import Config
from convoy.ledger.measured import with_measured
from convoy.ledger.rows import LedgerRows, UntraceableError
from convoy.ledger.text_formats import csv_text, json_text
from convoy.planner.config_ledger import network_ledger
from convoy.records.layer_times import LayerTimes
from convoy.records.metrics_logger import MetricsLogger
from convoy.records.run_context import RunContext
from convoy.records.wandb_record import WandbRecord
from convoy.runs.layout import RunFolder
from convoy.runs.whole_files import replace_text

_WARM_UP_STEPS = 3
"""Passes before the measured ones, in which libraries select their algorithms."""

_SHARE_MEASURED = 5
"""A run is measured if it is at least this many times as long as the measurement."""


class LedgerLog:
    """Ledger of a run and its destinations. Used on the first rank only.

    Attributes:
        ledger: Ledger; None if the model can't be traced without data.
        notice: One line for the terminal if there is no ledger; else empty.
    """

    def __init__(self, run: RunFolder, wandb: WandbRecord | None, ledger: LedgerRows | None, notice: str = "") -> None:
        self._run = run
        self._wandb = wandb
        self.ledger = ledger
        self.notice = notice

    def write(self) -> None:
        """Write ledger.csv, ledger.json, and the table and totals in W&B."""
        if self.ledger is None:
            return
        replace_text(self._run.ledger_csv, csv_text(self.ledger))
        replace_text(self._run.ledger_json, json_text(self.ledger))
        if self._wandb is not None:
            self._wandb.log_ledger(self.ledger)


def open_ledger_log(network: nn.Module, context: RunContext, wandb: WandbRecord | None) -> LedgerLog:
    """Build the ledger of the network and write it, unless a resumed run has written it already."""
    devices, run = context.devices, context.run
    precision = "32" if devices.precision == "32-true" else devices.precision
    try:
        with torch.random.fork_rng(devices=[]):
            ledger = network_ledger(
                network,
                context.config,
                precision,
                on_cuda=devices.accelerator == "cuda",
                micro_batch_size=context.sizes.micro_batch_size,
            )
    except UntraceableError as error:
        return LedgerLog(run, wandb, None, f"no ledger of this model: {error}")
    log = LedgerLog(run, wandb, ledger)
    if not run.ledger_json.is_file():
        log.write()
    return log


def measures(config: Config, length: RunLength, accumulation: int) -> bool:
    """Return True if a run is long enough to be measured and its layers run as modules (not compiled).

    Args:
        config: Config of the run.
        length: Length of the run in optimizer steps.
        accumulation: Micro batches per optimizer step.
    """
    steps = config.ledger.measure_steps
    if steps == 0 or config.trainer.compile:
        return False
    return length.total_steps is None or length.total_steps * accumulation >= _SHARE_MEASURED * steps


class Measuring(pl.Callback):
    """Lightning callback that measures the first steps and rewrites the ledger. Must come after `MetricsLogger`.

    Args:
        log: Ledger log that receives the measured times.
        recorder: Metrics logger, which leaves these steps out of images/s.
        steps: Number of passes to measure.
        device_name: Display name of the device.
    """

    def __init__(self, log: LedgerLog, recorder: MetricsLogger, steps: int, device_name: str) -> None:
        self._log = log
        self._recorder = recorder
        self._steps = steps
        self._device_name = device_name
        self._passes = self._step = 0
        self._times: LayerTimes | None = None
        self._is_done = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._recorder.pause_timing()
        self._step = trainer.global_step

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self._is_done:
            return
        if self._passes == _WARM_UP_STEPS:
            self._times = LayerTimes(pl_module.network, pl_module.device, trainer.optimizers[0])
        if self._times is not None:
            self._times.begin_step()

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        if self._times is not None:
            self._times.begin_optimizer()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._is_done:
            return
        self._passes += 1
        is_whole_step, self._step = trainer.global_step != self._step, trainer.global_step
        if self._passes >= _WARM_UP_STEPS + self._steps and is_whole_step:
            self._finish(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _finish(self, pl_module: Any) -> None:
        times, ledger = self._times, self._log.ledger
        self._stop()
        if times is not None and ledger is not None:
            source = f"the medians of {self._passes - _WARM_UP_STEPS} passes of {ledger.micro_batch_size} images"
            source = f"{source} on {self._device_name}"
            self._log.ledger = with_measured(ledger, times.medians(), source, times.optimizer_ms())
            self._log.write()
        self._recorder.restart_timing(self._step)

    def _stop(self) -> None:
        self._is_done = True
        if self._times is not None:
            self._times.detach()
            self._times = None
