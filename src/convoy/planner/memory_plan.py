"""Memory plan of a config on a card: predicted peak, whether it fits, and the largest micro batch that fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import RenderableType

from convoy.config.batch import BatchSizes, divide
from convoy.config.faults import Fault, UserError
from convoy.config.image_size import sides_of
from convoy.config.schema import Config, HardwareConfig
from convoy.data.check import counted_sizes, set_bytes
from convoy.ledger.notebook_table import NotebookTable
from convoy.ledger.rows import UntraceableError
from convoy.optim.fusing import may_fuse
from convoy.planner.allocator import Heap
from convoy.planner.calibration import Calibration
from convoy.planner.convolutions import Convolution
from convoy.planner.intervals import Spread, spread_of
from convoy.planner.peak_memory import BatchSizeModel, Card
from convoy.planner.plan_figures import PlanFigures
from convoy.planner.plan_table import named_sizes, rendered
from convoy.planner.traced_training import Training, record
from convoy.planner.workload import (
    batch_sizes,
    name_of,
    on_cuda,
    optimizer_of,
    precision_on,
    refuse_untraceable,
    skeleton,
    task_of,
)


class Plan(PlanFigures, NotebookTable):
    """Predicted memory of a training on a card, shown as a table."""

    def rich_table(self, width: int) -> RenderableType:
        """Return the categories, the peak with its position, and the result."""
        return rendered(self)

    def records(self) -> list[dict[str, Any]]:
        """Return one record, with a column per category."""
        data = self.as_data()
        categories = {f"{name}_bytes": size for name, size in data.pop("categories").items()}
        return [data | categories]

    def cells(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        """Return the memory of each category and the peaks."""
        return (f"{self.model} on {self.hardware}", "memory"), list(named_sizes(self))


class Planner:
    """Planner of one training on any number of cards. Cards share recordings of the training.

    Args:
        config: Checked config. The card is an argument of `plan`.

    Raises:
        UserError: The model can't be built.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._sizes = batch_sizes(config)
        self._network = skeleton(config)
        self._task = task_of(config)
        self._task.prepare(config.data)
        self._models: dict[tuple[bool, bool, bool, bool], BatchSizeModel] = {}

    def plan(self, hardware: HardwareConfig, calibration: Calibration | None = None, *, margin: float = 0.0) -> Plan:
        """Return the memory plan for a card.

        Args:
            hardware: The card.
            calibration: Measurements of the card.
            margin: Share of the usable memory that the prediction leaves free.

        Raises:
            UserError: The training can't be traced without data.
        """
        measured = calibration or Calibration()
        usable = measured.usable_bytes or hardware.usable_bytes
        context = hardware.context_bytes if measured.context_bytes is None else measured.context_bytes
        cuda = on_cuda(self._config, hardware)
        sizes = self._sizes
        precision = precision_on(self._config, hardware)
        model = self._model_for(precision, cuda=cuda, accumulates=sizes.accumulation > 1)
        spread = spread_of(model.convolutions.values(), measured) if cuda else Spread()
        limit, resident = None, set_bytes(self._config.data)
        if usable is not None and context is not None:
            limit = min(spread.limit_bytes(usable, context), max(0, int(usable * (1 - margin)) - context))
            if resident > (usable - context) // 4:
                resident = 0  # the data set then stays in host memory; see data.memory
        card = Card(limit, hardware.expandable_segments, measured.workspaces, resident)
        largest = fitting = fits = None
        if cuda and limit is not None:
            largest, fitting = model.largest(card), self._fitting(precision, card)
            if fitting is not None and self._config.trainer.micro_batch_size == "auto":
                sizes = fitting
                model = self._model_for(precision, cuda=cuda, accumulates=sizes.accumulation > 1)
            fits = model.fits(sizes.micro_batch_size, card)
        allocator = (card if fits else replace(card, limit_bytes=None)).allocator() if cuda else Heap()
        peak = model.peak(sizes.micro_batch_size, allocator, card.workspaces, resident if cuda else 0)
        return Plan(
            name_of(self._config),
            hardware.name,
            precision,
            sizes,
            cuda,
            peak,
            usable if cuda else None,
            context if cuda else 0,
            spread,
            fits,
            largest,
            fitting,
            measured.origin,
        )

    @property
    def micro_batch_size(self) -> int:
        """Samples per rank per forward pass in the config."""
        return self._sizes.micro_batch_size

    def convolutions(self, hardware: HardwareConfig) -> list[Convolution]:
        """Return the distinct convolutions of the training on a card, in the order in which they first run.

        Raises:
            UserError: The training can't be traced without data.
        """
        model = self._model_for(precision_on(self._config, hardware), cuda=True, accumulates=False)
        return list(model.convolutions.values())

    def _fitting(self, precision: str, card: Card) -> BatchSizes | None:
        """Return the batch sizes with the largest micro batch that divides the global batch and fits."""
        whole = self._sizes.global_batch_size // self._sizes.world_size
        alone = self._model_for(precision, cuda=True, accumulates=False)
        for micro in (whole // parts for parts in range(1, whole + 1) if whole % parts == 0):
            if not alone.fits(micro, card):
                continue  # accumulation needs at least as much memory
            if micro == whole or self._model_for(precision, cuda=True, accumulates=True).fits(micro, card):
                return divide(self._sizes.global_batch_size, micro, self._sizes.world_size)
        return None

    def _model_for(self, precision: str, *, cuda: bool, accumulates: bool) -> BatchSizeModel:
        clips = self._config.trainer.clip_grad_norm is not None
        fuse = may_fuse("cuda" if cuda else "cpu", precision, clips=clips)
        key = (precision != "32", cuda, accumulates, fuse)  # bfloat16 and float16 are of one size
        if key not in self._models:
            training = self._training(precision, cuda=cuda, accumulates=accumulates, fuse=fuse)
            small = max(2, min(32, self._sizes.micro_batch_size))  # batch norm needs two values of a channel
            try:
                recordings = record(self._network, training, small), record(self._network, training, 2 * small)
                self._models[key] = BatchSizeModel(*recordings)
            except UntraceableError as error:
                refuse_untraceable(self._network, self._config)
                raise UserError(
                    Fault(
                        "model",
                        str(error),
                        "write trainer.micro_batch_size=<samples> and train it without a plan",
                        name_of(self._config),
                    )
                ) from error
        return self._models[key]

    def _training(self, precision: str, *, cuda: bool, accumulates: bool, fuse: bool) -> Training:
        trainer, sizes = self._config.trainer, counted_sizes(self._config.data)
        return Training(
            (sizes["in_channels"], *sides_of(sizes["image_size"])),
            self._task,
            lambda model: optimizer_of(self._config, model, fuse=fuse),
            precision,
            on_cuda=cuda,
            accumulation=2 if accumulates else 1,  # a third is like the second
            ranks=self._sizes.world_size,
            clip_grad_norm=trainer.clip_grad_norm is not None,
            averages=trainer.ema_decay is not None or trainer.swa_start_epoch is not None,
            sharpness_aware=trainer.sam_radius is not None,
            channels_last=trainer.channels_last,
        )


def predicted(config: Config, calibration: Calibration | None = None) -> Plan:
    """Return the memory plan for the hardware of the config; see `Planner.plan`."""
    return Planner(config).plan(config.hardware, calibration)
