"""Context of a run: config, devices, batch sizes, length and folder."""

from __future__ import annotations

from dataclasses import dataclass

from convoy.config.batch import BatchSizes
from convoy.config.run_length import RunLength
from convoy.config.schema import Config
from convoy.records.console import Console
from convoy.runs.layout import RunFolder
from convoy.runtime.devices import Devices


@dataclass(frozen=True)
class RunContext:
    """Inputs that the parts of a run are built from.

    Attributes:
        config: Complete config, including the values chosen for this machine.
        devices: Devices, precision and threads.
        sizes: Global batch size and its division into micro batches.
        length: Length in optimizer steps and epochs.
        run: Run folder.
        console: Console that prints and logs on the first rank only.
        first_step: Optimizer step that a resumed run continues from; None for a new run.
        is_first_rank: True if this process writes for the run.
    """

    config: Config
    devices: Devices
    sizes: BatchSizes
    length: RunLength
    run: RunFolder
    console: Console
    first_step: int | None
    is_first_rank: bool

    @property
    def eval_batch_size(self) -> int:
        """Samples per rank in one forward pass of val and test."""
        return eval_batch_size(self.config, self.sizes)


def eval_batch_size(config: Config, sizes: BatchSizes) -> int:
    """Return the samples per rank in one forward pass of val and test."""
    return config.trainer.eval_batch_size or 2 * sizes.micro_batch_size
