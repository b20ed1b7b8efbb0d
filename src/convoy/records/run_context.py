"""Everything that is known of a run when it is built: config, devices, batch, length and folder."""

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
    """A run that is ready to be built.

    Attributes:
        config: complete, with what was chosen for the machine.
        devices: devices, precision and threads.
        sizes: division of the global batch.
        length: optimizer steps and epochs.
        run: folder of the run.
        console: prints and logs on the first rank, nothing elsewhere.
        first_step: optimizer step that a resumed run continues from; None for a new run.
        is_first_rank: whether this process writes for the run.
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
