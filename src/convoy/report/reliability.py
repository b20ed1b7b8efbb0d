"""Reliability diagram of a classifier (DeGroot & Fienberg 1983; Guo et al. 2017, arXiv 1706.04599, figure 1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from convoy.config.faults import Fault, UserError
from convoy.data.targets import CLASS_INDEX
from convoy.evaluation.network_outputs import outputs_of
from convoy.evaluation.run_evaluation import Evaluation
from convoy.evaluation.trained_run import TrainedRun
from convoy.report.complexity import save

NUM_BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Predictions by the probability of the predicted class, in bins of equal width.

    Attributes:
        counts: int64 [NUM_BINS], images per bin.
        confidences: float64 [NUM_BINS], mean probability; NaN in an empty bin.
        accuracies: float64 [NUM_BINS], share of correct predictions; NaN in an empty bin.
    """

    counts: NDArray[np.int64]
    confidences: NDArray[np.float64]
    accuracies: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: mean difference of confidence and accuracy over all images."""
        gaps = np.nan_to_num(np.abs(self.confidences - self.accuracies))
        return float((gaps * self.counts).sum() / self.counts.sum())


def reliability_of(probabilities: Tensor, targets: Tensor) -> Reliability:
    """Return the bins of predictions.

    Args:
        probabilities: [N, classes], with sum 1 per image.
        targets: int64 [N].
    """
    confidences, predicted = probabilities.double().max(1)
    values, correct = confidences.numpy(), (predicted == targets).numpy()
    # The upper edge of a bin belongs to it, as in Guo et al.
    bins = np.clip(np.ceil(values * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    counts = np.bincount(bins, minlength=NUM_BINS)
    with np.errstate(invalid="ignore"):
        means, shares = (np.bincount(bins, weights=one, minlength=NUM_BINS) / counts for one in (values, correct))
    return Reliability(counts, means, shares)


def check_task(run: TrainedRun) -> None:
    """Check that a run predicts one class per image.

    Raises:
        UserError: if it does not.
    """
    if run.facts.targets.kind != CLASS_INDEX:
        rule = "needs a run that predicts one class per image"
        raise UserError(Fault("reliability", rule, "write reliability=false", "true"))


def draw_reliability(opened: Evaluation, split: str) -> Path:
    """Draw the diagram of a run for a split, and return its file beside the metrics of the evaluation."""
    outputs, targets = outputs_of(opened.module, opened.data, split)
    found = reliability_of(opened.module.task.to_average(outputs), targets)
    path = opened.run.folder / f"{opened.stem(split)}-reliability.png"
    _draw(found, f"{opened.run.title}, {opened.data.name}: {len(targets):,} {split} images", path)
    return path


def _draw(found: Reliability, title: str, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 7), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    lefts, width = np.arange(NUM_BINS) / NUM_BINS, 1 / NUM_BINS
    used = found.counts > 0
    upper.bar(lefts[used], found.accuracies[used], width, align="edge", color="#0072B2", edgecolor="white")
    upper.plot(found.confidences[used], found.accuracies[used], "o", color="#D55E00", label="mean confidence of a bin")
    upper.plot([0, 1], [0, 1], "--", color="#5c5c5c", label="perfectly calibrated")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.set_title(title, fontsize=10, loc="left")
    upper.legend(loc="upper left", title=f"calibration error {found.error:.4f}")
    lower.bar(lefts, found.counts / found.counts.sum(), width, align="edge", color="#999999", edgecolor="white")
    lower.set(xlabel="probability of the predicted class", ylabel="share of images", ylim=(0, 1))
    save(figure, path)
