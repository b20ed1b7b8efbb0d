"""Loggers of a run: those of the config, and metrics.csv for every run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytorch_lightning.loggers import Logger

from convoy.config.faults import Fault, UserError
from convoy.config.targets import build
from convoy.records.isolated_logger import IsolatedLogger
from convoy.records.metrics_csv import MetricsFile
from convoy.records.run_context import RunContext
from convoy.records.wandb_record import WandbRecord
from convoy.records.wandb_run import wandb_record
from convoy.runs.layout import RunFolder


@dataclass
class Loggers:
    """Lightning's loggers of a run.

    Attributes:
        all: Loggers for Lightning's Trainer.
        wandb: W&B record, if there is one.
        notices: Lines for the terminal.
        isolated: Loggers other than metrics.csv and W&B.
    """

    all: list[Logger] = field(default_factory=list)
    wandb: WandbRecord | None = None
    notices: list[str] = field(default_factory=list)
    isolated: list[IsolatedLogger] = field(default_factory=list)

    def isolate(self, logger: Logger, name: str, notify: Callable[[str], None]) -> None:
        """Add a logger that can neither end nor delay the run."""
        self.isolated.append(IsolatedLogger(logger, name, notify))
        self.all.append(self.isolated[-1])

    def finish(self, exit_code: int) -> None:
        """Wait until everything is logged, for a limited time, and close the loggers."""
        for logger in self.isolated:
            logger.finish()
        if self.wandb is not None:
            self.wandb.finish(exit_code)


def open_loggers(context: RunContext, saved: Mapping[str, Any]) -> Loggers:
    """Open every logger of the config; W&B's record is opened when it is first used.

    Args:
        context: Context of the run. Ranks other than the first get no loggers.
        saved: Resolved config as plain containers, for loggers that store it.

    Raises:
        UserError: If a logger of `logger.other` can't be built.
    """
    config, run, from_step = context.config, context.run, context.first_step
    loggers = Loggers()
    if not context.is_first_rank:
        return loggers
    loggers.all.append(MetricsFile(run.metrics, from_step))
    if config.logger.tensorboard is not None:
        from pytorch_lightning.loggers import TensorBoardLogger

        folder = run.path / config.logger.tensorboard.folder
        # Rows after the step that a resumed run continues from are hidden, as they are removed from metrics.csv.
        purge = None if from_step is None else from_step + 1
        tensorboard = TensorBoardLogger(str(folder), name="", version="", purge_step=purge)
        loggers.isolate(tensorboard, "logger.tensorboard", context.console.say)
        loggers.notices.append(f"TensorBoard: tensorboard --logdir {folder}")
    if config.logger.wandb is not None:
        from convoy.records.wandb_logger import RecordLogger

        loggers.wandb = wandb_record(config, config.logger.wandb, run, saved, context.console.say)
        loggers.all.append(RecordLogger(loggers.wandb))
    for name, node in config.logger.other.items():
        loggers.isolate(_built(name, node, run), f"logger.other.{name}", context.console.say)
    return loggers


def _built(name: str, node: Mapping[str, Any], run: RunFolder) -> Logger:
    folder = str(run.path)
    filled = {
        key: value.replace("{run_folder}", folder) if isinstance(value, str) else value for key, value in node.items()
    }
    key = f"logger.other.{name}"
    # MLflow 3 refuses its file store otherwise, the only one that needs neither a server nor a database.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    logger = build(key, filled)
    if not isinstance(logger, Logger):
        rule, remedy = "is not a Lightning logger", "derive it from pytorch_lightning.loggers.Logger"
        raise UserError(Fault(f"{key}._target_", rule, remedy, str(node["_target_"])))
    return logger
