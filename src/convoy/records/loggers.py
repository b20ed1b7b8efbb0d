"""The loggers that a config names, and the metrics file that every run writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pytorch_lightning.loggers import Logger

from convoy.config.schema import Config
from convoy.records.metrics_csv import MetricsFile
from convoy.records.wandb_run import WandbRun, begin
from convoy.runs.layout import RunFolder


@dataclass
class Loggers:
    """Lightning's loggers of a run.

    Attributes:
        all: what the Trainer is given.
        wandb: the W&B run, if there is one.
        notices: one line each for the terminal.
    """

    all: list[Logger] = field(default_factory=list)
    wandb: WandbRun | None = None
    notices: list[str] = field(default_factory=list)


def open_loggers(
    config: Config,
    run: RunFolder,
    saved: Mapping[str, Any],
    from_step: int | None,
    tell: Callable[[str], None],
    *,
    writing: bool,
) -> Loggers:
    """Open every logger of the config, W&B's when it is first used.

    Args:
        config: names them.
        run: where they write.
        saved: the resolved config as plain containers, for those that keep it.
        from_step: the optimizer step that a resumed run goes on from.
        tell: gets the line of a record that is opened later.
        writing: false on all ranks but the first, which log nothing.
    """
    loggers = Loggers()
    if not writing:
        return loggers
    loggers.all.append(MetricsFile(run.metrics, from_step))
    if config.logger.tensorboard is not None:
        from pytorch_lightning.loggers import TensorBoardLogger

        folder = run.path / config.logger.tensorboard.folder
        # Rows after the step that a resumed run goes on from are hidden, as they are cut from metrics.csv.
        purge = None if from_step is None else from_step + 1
        loggers.all.append(TensorBoardLogger(str(folder), name="", version="", purge_step=purge))
        loggers.notices.append(f"TensorBoard: tensorboard --logdir {folder}")
    if config.logger.wandb is not None:
        from convoy.records.wandb_logger import RecordLogger

        loggers.wandb = WandbRun(partial(begin, config, config.logger.wandb, run, saved), tell)
        loggers.all.append(RecordLogger(loggers.wandb))
    return loggers
