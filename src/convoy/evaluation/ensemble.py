"""Ensembles: metrics of the mean of the predictions of several runs, compared with the metrics of each run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table as RichTable
from torch import Tensor

from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.evaluation.network_outputs import outputs_of
from convoy.evaluation.run_evaluation import Evaluation
from convoy.evaluation.trained_run import TrainedRun
from convoy.records.console import Console
from convoy.runs.layout import shown
from convoy.tasks.construction import metrics_of
from convoy.tasks.task import Task

_ROUNDS = 500


@dataclass(frozen=True)
class Member:
    """Run of an ensemble, or the ensemble.

    Attributes:
        name: name of the run.
        folder: folder of the run; None for the ensemble.
        weight: weight in the mean; None for the ensemble.
        metrics: scalar metrics of the task by name.
    """

    name: str
    folder: str | None
    weight: float | None
    metrics: dict[str, float]


@dataclass(frozen=True)
class Ensemble:
    """Evaluated runs and their ensemble.

    Attributes:
        members: the runs in the given order, followed by the ensemble.
        task: task of the runs, which formats the metrics.
        split: evaluated split.
    """

    members: tuple[Member, ...]
    task: Task
    split: str


def evaluate_together(
    runs: Sequence[TrainedRun],
    split: str,
    weights: str,
    overrides: Sequence[str],
    options: Options | None = None,
) -> Ensemble:
    """Evaluate runs separately and as the mean of their probabilities.

    Args:
        runs: two or more runs.
        split: train (without augmentation), val or test.
        weights: "equal", or "val" to choose the weights with the lowest loss of the mean on val.
        overrides: overrides of the config of each run.
        options: folders of the options.

    Raises:
        UserError: if `evaluate` raises, or the runs have different images or classes.
    """
    opened_runs = [Evaluation.open(run, split, overrides, options) for run in runs]
    _check_alike(opened_runs, weights)
    task = opened_runs[0].module.task
    members, targets = _averageable(opened_runs, split)
    mixture = torch.full((len(members),), 1 / len(members), dtype=torch.float64)
    if weights == "val":
        likelihoods = task.likelihoods(*_averageable(opened_runs, "val"))
        if likelihoods is None:
            raise UserError(Fault("weights", "can't be optimized for this task", "write weights=equal", weights))
        mixture = best_weights(likelihoods)
    mean = torch.einsum("m,m...->...", mixture, members)
    evaluated = [
        Member(opened.run.config.name, shown(opened.run.folder), float(weight), _metrics(opened, own, targets))
        for opened, weight, own in zip(opened_runs, mixture, members, strict=True)
    ]
    ensemble = Member("ensemble", None, None, _metrics(opened_runs[0], mean, targets))
    return Ensemble((*evaluated, ensemble), task, split)


def _averageable(opened_runs: Sequence[Evaluation], split: str) -> tuple[Tensor, Tensor]:
    """Return the predictions of the M runs, [M, N, ...], and the targets of the split."""
    members, targets = [], None
    for opened in opened_runs:
        outputs, own_targets = outputs_of(opened.module, opened.data, split)
        if targets is not None and not torch.equal(targets, own_targets):
            raise _unlike(opened_runs)
        members.append(opened.module.task.to_average(outputs))
        targets = own_targets
    assert targets is not None
    return torch.stack(members), targets


def best_weights(likelihoods: Tensor) -> Tensor:
    """Return the weights [M], positive with sum 1, that minimize the log loss of the mean of the probabilities.

    The problem is convex. It is solved by expectation maximization for the weights of a mixture (Dempster et al.
    1977), which lowers the loss in each iteration.

    Args:
        likelihoods: [M, N], probability that each of M runs assigns to each target.
    """
    likelihoods = likelihoods.clamp_min(1e-300)
    weights = torch.full((len(likelihoods),), 1 / len(likelihoods), dtype=torch.float64)
    for _ in range(_ROUNDS):
        parts = weights[:, None] * likelihoods
        weights = (parts / parts.sum(0)).mean(1)
    return weights


def print_ensemble(ensemble: Ensemble) -> None:
    """Print a table with the metrics of each run and of the ensemble."""
    members, task = ensemble.members, ensemble.task
    console = Console()
    console.log_to(None)
    console.say(f"{ensemble.split}: {len(members) - 1} runs and the mean of their predictions")
    names = [name for name in members[-1].metrics if name not in task.hidden]
    grid = RichTable(box=None, pad_edge=False, header_style="bold")
    grid.add_column("run", no_wrap=True)
    for heading in ("weight", *(task.title(name) for name in names)):
        grid.add_column(heading, justify="right", no_wrap=True)
    for member in members:
        weight = "" if member.weight is None else f"{member.weight:.3f}"
        values = [task.text(name, member.metrics[name]) for name in names]
        grid.add_row(member.folder or member.name, weight, *values, style="bold" if member.weight is None else None)
    console.show(grid)


def as_data(ensemble: Ensemble) -> dict[str, Any]:
    """Return plain containers for JSON."""
    records = [
        {"name": one.name, "folder": one.folder, "weight": one.weight, **one.metrics} for one in ensemble.members
    ]
    return {"runs": records[:-1], "ensemble": records[-1]}


def _metrics(opened: Evaluation, averaged: Tensor, targets: Tensor) -> dict[str, float]:
    task = opened.module.task
    metrics = metrics_of(task, opened.data.config, "val")
    task.update_metrics(metrics, task.from_average(averaged), targets)
    return task.compute(metrics)


def _check_alike(opened_runs: Sequence[Evaluation], weights: str) -> None:
    if len({(opened.data.name, opened.data.images.targets) for opened in opened_runs}) > 1:
        raise _unlike(opened_runs)
    if weights == "val" and not all(opened.data.images.sizes.get("val") for opened in opened_runs):
        rule = f"requires a val split, which {opened_runs[0].data.name} does not have"
        raise UserError(Fault("weights", rule, "write weights=equal", weights))


def _unlike(opened_runs: Sequence[Evaluation]) -> UserError:
    names = ", ".join(f"{shown(opened.run.folder)}: {opened.data.name}" for opened in opened_runs)
    rule = f"must have the same images and classes ({names})"
    return UserError(Fault("runs", rule, "choose runs of one data set, or override data for all"))
