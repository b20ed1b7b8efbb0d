"""Plot and table of a learning-rate range test."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from convoy.runs.whole_files import replace_text
from convoy.training.range_test import RangeTest


def write_range_test(found: RangeTest, folder: Path) -> list[Path]:
    """Write the losses as lr_range.csv and their plot as lr_range.png.

    Args:
        found: the range test.
        folder: folder of the files; created if it does not exist.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table, plot = folder / "lr_range.csv", folder / "lr_range.png"
    text = io.StringIO(newline="")
    rows = [("lr", "loss", "smoothed_loss"), *zip(found.rates, found.losses, found.smoothed, strict=True)]
    csv.writer(text).writerows(rows)
    replace_text(table, text.getvalue())
    _draw(found, plot)
    return [table, plot]


def _draw(found: RangeTest, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(found.rates, found.losses, color="#999999", linewidth=0.8, label="training loss")
    axes.plot(found.rates, found.smoothed, color="#0072B2", linewidth=2, label="smoothed")
    if found.suggestion is not None:
        axes.axvline(found.suggestion, color="#D55E00", linestyle="--", label=f"suggestion {found.suggestion:.2g}")
    axes.set_xscale("log")
    axes.set_ylim(0, 2 * found.smoothed[0])  # without the peak of a loss that diverges
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.legend()
    figure.savefig(path)
