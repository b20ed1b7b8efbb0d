"""Each layer's weight and gradient norms, at the steps that ledger.norms_every_steps asks for."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from convoy.records.metrics_csv import MetricsFile

_COLUMNS = ("step", "module", "weight_norm", "gradient_norm")


class Norms(pl.Callback):
    """The 2-norm over all parameters of a module, to norms.csv and the loggers. On the first rank only.

    Gradients are those that the optimizer is about to use, before they are clipped; weights are those before
    its step.

    Args:
        every_steps: optimizer steps between two rows of every layer.
        path: of norms.csv.
        from_step: rows after this optimizer step are dropped first: a resumed run writes them again.
    """

    def __init__(self, every_steps: int, path: Path, from_step: int | None) -> None:
        self._every_steps = every_steps
        self._path = path
        kept = [] if from_step is None else _rows_until(path, from_step)
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            writer.writerows(kept)

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Optimizer) -> None:
        step = trainer.global_step + 1
        if step % self._every_steps:
            return
        norms = layer_norms(pl_module.network)
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerows([step, module, *(f"{norm:.9g}" for norm in pair)] for module, pair in norms.items())
        values = {}
        for module, (weight, gradient) in norms.items():
            values[f"weight_norm/{module}"] = weight
            values[f"gradient_norm/{module}"] = gradient
        for logger in trainer.loggers:
            if not isinstance(logger, MetricsFile):  # which has columns of its own
                logger.log_metrics(values, step=step)


@torch.no_grad()
def layer_norms(network: nn.Module) -> dict[str, tuple[float, float]]:
    """The norms of each module's own parameters and of their gradients, by the module's name."""
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
    return {name: (weight, gradient) for name, (weight, gradient) in zip(weights, values, strict=True)}


def _norm(tensors: list[Tensor]) -> Tensor:
    norms = torch.stack([torch.linalg.vector_norm(one.float()) for one in tensors])
    norm: Tensor = torch.linalg.vector_norm(norms)
    return norm


def _rows_until(path: Path, step: int) -> list[list[str]]:
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.reader(file) if len(row) == len(_COLUMNS) and row[0].isdigit()]
    return [row for row in rows if int(row[0]) <= step]
