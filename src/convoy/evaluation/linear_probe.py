"""Linear probe: the task's metrics of a linear layer on the features of a network.

Alain & Bengio 2016 (arXiv:1610.01644).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from rich.table import Table
from torch import Tensor, nn

from convoy.config.faults import Fault, UserError
from convoy.config.schema import Config
from convoy.data.targets import LOCATED_KINDS
from convoy.evaluation.feature_arrays import Source
from convoy.records.console import Console
from convoy.runs.layout import shown
from convoy.runs.whole_files import replace_text
from convoy.tasks.construction import build_task, metrics_of
from convoy.tasks.task import Task

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Candidates for the inverse strength C of the regularization, chosen on val."""

_MOST_ITERATIONS = 200
_MOST_BYTES = 2**32

Samples = tuple[Tensor, Tensor]
"""Features [N, D] and targets [N, ...] of a split."""


@dataclass(frozen=True)
class Probed:
    """Result of a linear probe.

    Attributes:
        num_features: number of features per image.
        strength: C, chosen on val.
        metrics: the task's scalar metrics by split and name.
        constant: metrics on val of the best constant outputs.
    """

    num_features: int
    strength: float
    metrics: Mapping[str, Mapping[str, float]]
    constant: Mapping[str, float]


def fit(task: Task, samples: Samples, strength: float) -> nn.Linear:
    """Return the linear layer that minimizes the task's mean loss + |weights|² / (2 C N), found with L-BFGS.

    With cross entropy this is the objective of scikit-learn's LogisticRegression. The bias is not regularized.

    Args:
        task: task with a loss of outputs [N, number of target names] and targets.
        samples: features and targets of train.
        strength: C.
    """
    features, targets = samples
    layer = nn.Linear(features.shape[1], len(task.targets.names))
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    solver = torch.optim.LBFGS(layer.parameters(), max_iter=_MOST_ITERATIONS, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        loss = task.loss(layer(features), targets) + layer.weight.square().sum() / (2 * strength * len(features))
        loss.backward()
        return cast(Tensor, loss)

    solver.step(objective)  # type: ignore[no-untyped-call]
    return layer


def probe(task: Task, config: Config, samples: Mapping[str, Samples], strengths: Sequence[float] = STRENGTHS) -> Probed:
    """Fit a linear layer on train per strength and keep the layer with the best monitored metric on val.

    Args:
        task: task of the data.
        config: config of the run, with the additional metrics.
        samples: features and targets of "train" and "val", and of "test" if there is one.
        strengths: inverse strengths of the L2 penalty; the strongest penalty wins a tie.
    """
    features, _ = samples["train"]
    mean, spread = features.mean(0), features.std(0)
    spread = torch.where(spread > 0, spread, 1)
    scaled = {split: ((values - mean) / spread, targets) for split, (values, targets) in samples.items()}
    monitored, sign = task.monitor.removeprefix("val/"), 1 if task.mode == "max" else -1

    def score(layer: nn.Linear, split: str) -> dict[str, float]:
        metrics = metrics_of(task, config, "val")
        values, targets = scaled[split]
        with torch.inference_mode():
            task.update_metrics(metrics, layer(values), targets)
        return task.compute(metrics)

    layers = [(strength, fit(task, scaled["train"], strength)) for strength in sorted(strengths)]
    best_strength, best = max(layers, key=lambda pair: sign * score(pair[1], "val")[monitored])
    # With features of zero, the outputs are the bias.
    constant = fit(task, (torch.zeros(len(features), 1), scaled["train"][1]), 1.0)
    scaled["constant"] = torch.zeros(len(scaled["val"][1]), 1), scaled["val"][1]
    return Probed(
        features.shape[1], best_strength, {split: score(best, split) for split in samples}, score(constant, "constant")
    )


def probe_run(source: Source) -> Probed:
    """Probe a layer of a run's network, print the metrics and write them to the run's folder.

    Raises:
        UserError: if the features exceed 4 GiB, the data has no train or val split, or its targets have positions.
    """
    if (kind := source.data.images.targets.kind) in LOCATED_KINDS:
        rule = f"has targets of the kind {kind}; a probe needs one target per image"
        raise UserError(Fault("run", rule, "choose a run of another task", shown(source.run.folder)))
    terminal = Console()
    terminal.log_to(None)
    images, config = source.data.images, source.data.config
    for split in ("train", "val"):
        source.data.check_split(split)
    task = build_task(config, images.targets, images.class_counts)
    samples = {split: _gathered(source, split) for split, count in images.sizes.items() if count}
    probed = probe(task, config, samples)
    path = source.run.folder / f"probe-{source.stem}.json"
    record: dict[str, Any] = {"layer": source.tap.name, "data": source.data.name, **asdict(probed)}
    replace_text(path, json.dumps(record, indent=2) + "\n")
    terminal.say(source.title)
    counts = ", ".join(f"{len(targets):,} {split}" for split, (_, targets) in samples.items())
    terminal.say(f"{source.data.name}: {counts}; {probed.num_features:,} features, C = {probed.strength:g}")
    terminal.show(_table(task, probed))
    terminal.say(shown(path))
    return probed


def _table(task: Task, probed: Probed) -> Table:
    names = [name for name in probed.constant if name not in task.hidden]
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("linear probe")
    for name in names:
        grid.add_column(task.title(name), justify="right")
    for split, values in probed.metrics.items():
        grid.add_row(split, *(task.text(name, values[name]) for name in names))
    grid.add_row("val, same output for all", *(task.text(name, probed.constant[name]) for name in names))
    return grid


def _gathered(source: Source, split: str) -> Samples:
    """Return features [N, D] and targets [N, ...] of a whole split."""
    features, all_targets = [], []
    for values, targets in source.batches(split):
        features.append(torch.flatten(values, 1))
        all_targets.append(targets)
        size = features[0].shape[1] * source.data.images.sizes[split] * 4
        if size > _MOST_BYTES:
            rule = f"{split} would have {features[0].shape[1]:,} features per image, {size / 2**30:.1f} GiB in total"
            remedy = "choose a later layer with fewer features; penultimate is the last one"
            raise UserError(Fault("layer", rule, remedy, source.tap.name))
    return torch.cat(features), torch.cat(all_targets)
