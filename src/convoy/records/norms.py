"""Weight and gradient norms of each layer, logged every ledger.norms_every_steps steps."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from convoy.optim.fusing import gradient_scale
from convoy.records.metrics_csv import MetricsFile
from convoy.runs.records import whole_lines
from convoy.runs.whole_files import append_text, replace_text

_COLUMNS = ("step", "module", "weight_norm", "gradient_norm")


class Norms(pl.Callback):
    """Lightning callback that writes the 2-norms of each module's parameters to norms.csv and the loggers.

    Used on the first rank only. Gradients are taken before clipping, weights before the optimizer step.

    Args:
        every_steps: Optimizer steps between two rows of each layer.
        path: Path of norms.csv.
        from_step: Optimizer step that a resumed run continues from; later rows are dropped, since they are written
            again. None for a new run.
    """

    def __init__(self, every_steps: int, path: Path, from_step: int | None) -> None:
        self._every_steps = every_steps
        self._path = path
        kept = [] if from_step is None else _rows_until(path, from_step)
        replace_text(path, _csv_text([_COLUMNS, *kept]))

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        step = trainer.global_step + 1
        if step % self._every_steps:
            return
        norms = layer_norms(pl_module.network, gradient_scale(trainer.precision_plugin, optimizer))
        rows = [(str(step), module, *(f"{norm:.9g}" for norm in pair)) for module, pair in norms.items()]
        append_text(self._path, _csv_text(rows))
        values = {}
        for module, (weight, gradient) in norms.items():
            values[f"weight_norm/{module}"] = weight
            values[f"gradient_norm/{module}"] = gradient
        for logger in trainer.loggers:
            if not isinstance(logger, MetricsFile):  # norms are in norms.csv instead
                logger.log_metrics(values, step=step)


@torch.no_grad()
def layer_norms(network: nn.Module, scale: float = 1.0) -> dict[str, tuple[float, float]]:
    """Return the 2-norms (weights, gradients) of each module's direct parameters by the module's name.

    Parameters without a gradient count as zero gradients.

    Args:
        network: after a backward pass.
        scale: factor of the gradients that the norms leave out.
    """
    weights: dict[str, list[Tensor]] = defaultdict(list)
    gradients: dict[str, list[Tensor]] = defaultdict(list)
    for name, parameter in network.named_parameters():
        module = name.rpartition(".")[0]
        weights[module].append(parameter.detach())
        if parameter.grad is not None:
            gradients[module].append(parameter.grad)
    pairs = [
        torch.stack([_norm(own), _norm(gradients[name] or [own[0].new_zeros(1)])]) for name, own in weights.items()
    ]
    # One copy from the device for all layers.
    values = torch.stack(pairs).tolist() if pairs else []
    return {name: (weight, gradient / scale) for name, (weight, gradient) in zip(weights, values, strict=True)}


def _norm(tensors: list[Tensor]) -> Tensor:
    norms = torch.stack([torch.linalg.vector_norm(one.float()) for one in tensors])
    norm: Tensor = torch.linalg.vector_norm(norms)
    return norm


def _csv_text(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _rows_until(path: Path, step: int) -> list[list[str]]:
    if not path.is_file():
        return []
    rows = [row for row in csv.reader(whole_lines(path)) if len(row) == len(_COLUMNS) and row[0].isdigit()]
    return [row for row in rows if int(row[0]) <= step]
