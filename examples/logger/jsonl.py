"""Metrics as lines of JSON."""

import json
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only


class JsonLines(Logger):
    """Appends a line of JSON to a file whenever metrics are logged."""

    name = "jsonl"
    version = ""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append the metrics of a step."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml in the run's folder has them."""
