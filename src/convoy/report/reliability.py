"""Reliability diagram of a classifier (DeGroot & Fienberg 1983; Guo et al. 2017, arXiv 1706.04599, figure 1)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convoy.config.faults import Fault, UserError
from convoy.data.targets import CLASS_INDEX
from convoy.evaluation.trained_run import TrainedRun
from convoy.report.complexity import save


@dataclass(frozen=True)
class Reliability:
    """Predictions by the probability of the predicted class, in bins of equal width.

    Attributes:
        counts: int64 [bins], images per bin.
        confidences: float64 [bins], mean probability; NaN in an empty bin.
        accuracies: float64 [bins], share of correct predictions; NaN in an empty bin.
    """

    counts: NDArray[np.int64]
    confidences: NDArray[np.float64]
    accuracies: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Sequence[Sequence[Any]]) -> Reliability:
        """Return the bins of a task's table of kind `calibration`, also as text."""
        means = np.array([[np.nan if value in ("", None) else float(value) for value in row[3:5]] for row in rows])
        return cls(np.array([int(row[2]) for row in rows]), means[:, 0], means[:, 1])

    @property
    def error(self) -> float:
        """Expected calibration error: mean difference of confidence and accuracy over all images."""
        gaps = np.nan_to_num(np.abs(self.confidences - self.accuracies))
        return float((gaps * self.counts).sum() / self.counts.sum())


def check_task(run: TrainedRun) -> None:
    """Check that a run predicts one class per image.

    Raises:
        UserError: if it does not.
    """
    if run.facts.targets.kind != CLASS_INDEX:
        rule = "needs a run that predicts one class per image"
        raise UserError(Fault("reliability", rule, "write reliability=false", "true"))


def draw_reliability(files: Path, title: str) -> Path:
    """Draw the diagram of an evaluation beside its metrics.

    Args:
        files: path of the evaluation's files without their endings; `-calibration.csv` has the bins.
        title: of the diagram.

    Returns:
        The file.
    """
    with files.with_name(f"{files.name}-calibration.csv").open(newline="", encoding="utf-8") as file:
        _, *rows = csv.reader(file)
    found = Reliability.of(rows)
    path = files.with_name(f"{files.name}-reliability.png")
    _draw(found, f"{title}, {files.name}: {found.counts.sum():,} images", path)
    return path


def _draw(found: Reliability, title: str, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 7), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    lefts, width = np.arange(len(found.counts)) / len(found.counts), 1 / len(found.counts)
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
