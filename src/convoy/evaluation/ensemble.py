"""Several runs as one: the mean of their probabilities, each run's error beside that of all together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.evaluation.run_evaluation import Opened, open_run
from convoy.records.console import Console
from convoy.runs.layout import shown
from convoy.tasks.evaluation_metrics import EvaluationMetrics
from convoy.training import summary

_ROUNDS = 500


@dataclass(frozen=True)
class Member:
    """One run of an ensemble, or the ensemble itself.

    Attributes:
        name: of the run, for people.
        folder: of the run; None: the ensemble.
        weight: of its probabilities in the mean; None: the ensemble.
        top1, top5: accuracies as fractions; top5 is None with 5 classes or fewer.
        loss: mean cross-entropy.
    """

    name: str
    folder: str | None
    weight: float | None
    top1: float
    top5: float | None
    loss: float


def evaluate_together(
    runs: Sequence[str],
    split: str,
    checkpoint: str,
    weights: str,
    overrides: Sequence[str],
    options: Options | None = None,
) -> list[Member]:
    """Evaluate runs alone and as the mean of their probabilities.

    Args:
        runs: their folders.
        split: train (as it is), val or test.
        checkpoint: best or last, of each.
        weights: "equal", or "val": those with which the mean has the lowest loss on val.
        overrides: put over the config of each.
        options: where options are looked for.

    Returns:
        The runs in the order given, and the ensemble as the last.

    Raises:
        UserError: what `evaluate` raises, or the runs don't see the same images and classes.
    """
    shares, labels, on_val = [], None, []
    opened_runs = [open_run(text, split, checkpoint, overrides, options, key="runs") for text in runs]
    _check_alike(opened_runs, weights)
    for opened in opened_runs:
        probabilities, own_labels = predictions(opened, split)
        if labels is not None and not torch.equal(labels, own_labels):
            raise _unlike(opened_runs)
        shares.append(probabilities)
        labels = own_labels
        if weights == "val":
            on_val.append(predictions(opened, "val"))
    assert labels is not None
    mixture = torch.full((len(shares),), 1 / len(shares), dtype=torch.float64)
    if weights == "val":
        mixture = best_weights(torch.stack([probabilities for probabilities, _ in on_val]), on_val[0][1])
    together = torch.einsum("m,mnk->nk", mixture, torch.stack(shares))
    members = [
        _member(opened.config.name, shown(opened.run.path), float(weight), share, labels)
        for opened, weight, share in zip(opened_runs, mixture, shares, strict=True)
    ]
    return [*members, _member("ensemble", None, None, together, labels)]


def predictions(opened: Opened, split: str) -> tuple[Tensor, Tensor]:
    """Probabilities [N, num_classes] of a split in float64, and its labels [N]; on the CPU, in the set's order."""
    devices = opened.devices
    device = torch.device(devices.accelerator)
    network = opened.module.network.to(device).eval()
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(devices.precision)
    found, labels = [], []
    with torch.inference_mode(), torch.autocast(device.type, dtype=half, enabled=half is not None):
        for images, own in opened.data.evaluation_loader(split, device=device):
            found.append(functional.softmax(network(images).double(), dim=1).cpu())
            labels.append(own.cpu())
    return torch.cat(found), torch.cat(labels)


def best_weights(probabilities: Tensor, labels: Tensor) -> Tensor:
    """The weights [M], above 0 and 1 in all, with which the mean of probabilities has the least cross-entropy.

    The problem is convex; this is expectation maximization for the weights of a mixture (Dempster et al. 1977), each
    round of which lowers the loss.

    Args:
        probabilities: [M, N, num_classes] of M runs.
        labels: [N].
    """
    of_label = probabilities[:, torch.arange(len(labels)), labels].clamp_min(1e-300)
    weights = torch.full((len(of_label),), 1 / len(of_label), dtype=torch.float64)
    for _ in range(_ROUNDS):
        parts = weights[:, None] * of_label
        weights = (parts / parts.sum(0)).mean(1)
    return weights


def tell(members: Sequence[Member], split: str) -> None:
    """Print each run's errors beside the ensemble's."""
    terminal = Console()
    terminal.log_to(None)
    terminal.say(f"{split}: errors of {len(members) - 1} runs and of the mean of their probabilities")
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("run", no_wrap=True)
    for heading in ("weight", "top-1 error", "top-5 error", "loss"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for member in members:
        grid.add_row(*_cells(member), style="bold" if member.weight is None else None)
    terminal.show(grid)


def as_data(members: Sequence[Member]) -> dict[str, Any]:
    """For programs: plain values."""
    return {"runs": [asdict(member) for member in members[:-1]], "ensemble": asdict(members[-1])}


def _cells(member: Member) -> Iterator[str]:
    yield member.name if member.folder is None else member.folder
    yield "" if member.weight is None else f"{member.weight:.3f}"
    for accuracy in (member.top1, member.top5):
        yield "–" if accuracy is None else summary.metric_text("error", 1 - accuracy)
    yield summary.metric_text("loss", member.loss)


def _member(name: str, folder: str | None, weight: float | None, probabilities: Tensor, labels: Tensor) -> Member:
    metrics = EvaluationMetrics(probabilities.shape[1])
    logs = probabilities.clamp_min(1e-300).log()
    metrics.update(logs, labels, functional.nll_loss(logs, labels, reduction="none"))
    values = metrics.compute("it")
    return Member(name, folder, weight, values["it/top1"], values.get("it/top5"), values["it/loss"])


def _check_alike(opened_runs: Sequence[Opened], weights: str) -> None:
    if len({(opened.config.data.name, opened.data.num_classes) for opened in opened_runs}) > 1:
        raise _unlike(opened_runs)
    if weights == "val" and not all(opened.data.sizes.get("val") for opened in opened_runs):
        rule = f"are learned on val, which {opened_runs[0].config.data.name} has not"
        raise UserError(Fault("weights", rule, "write weights=equal", weights))


def _unlike(opened_runs: Sequence[Opened]) -> UserError:
    names = ", ".join(f"{shown(opened.run.path)}: {opened.config.data.name}" for opened in opened_runs)
    rule = f"must see the same images and classes ({names})"
    return UserError(Fault("runs", rule, "choose runs of one data set, or override data for all"))
