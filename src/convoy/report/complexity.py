"""Accuracy against MACs, with circles as large as the number of parameters (after Canziani et al. 2016,
arXiv:1605.07678, figure 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convoy.config.cards import FAMILIES
from convoy.evaluation.comparison import OTHERS, Entry
from convoy.report.labels import Box, Circle, leader, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito 2008: told apart by everyone, in gray too.
_COLOURS = (
    "#332288",
    "#E69F00",
    "#D55E00",
    "#009E73",
    "#56B4E9",
    "#882255",
    "#CC79A7",
    "#F0E442",
    "#0072B2",
    "#999999",
)
_INK = "#222222"
_LARGEST_POINTS = 30.0
"""Radius of the circle of the network with the most parameters, in points of 1/72 inch."""


def draw(entries: Sequence[Entry], title: str) -> Figure:
    """A picture of the entries that have an accuracy; at least one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    entries = [entry for entry in entries if entry.top1 is not None and entry.macs]
    figure = Figure(figsize=(12, 8), dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.07, 0.08, 0.78, 0.86))
    most = max(entry.params for entry in entries)
    radii = [_LARGEST_POINTS * math.sqrt(entry.params / most) for entry in entries]
    colours = dict(zip([*FAMILIES, OTHERS], _COLOURS, strict=True))
    for entry, radius in sorted(zip(entries, radii, strict=True), key=lambda pair: -pair[1]):
        axes.scatter(
            entry.macs / 1e9,
            100 * (entry.top1 or 0),
            s=math.pi * radius**2,
            color=colours.get(entry.family, colours[OTHERS]),
            alpha=0.55,
            edgecolors=_INK,
            linewidths=0.6,
        )
    _scale(axes, entries)
    axes.set_title(title, loc="left", fontsize=13)
    _name_families(axes, {entry.family if entry.family in colours else OTHERS for entry in entries}, colours)
    _show_sizes(axes, most)
    _label(figure, axes, entries, radii)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write the picture; its format follows from the suffix. The bytes follow from the picture alone."""
    metadata = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    figure.savefig(path, metadata=metadata.get(path.suffix, {}))


def _scale(axes: Axes, entries: Sequence[Entry]) -> None:
    """Room around the circles: a logarithmic axis of MACs, a linear one of accuracy."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    macs = [entry.macs / 1e9 for entry in entries]
    accuracies = [100 * (entry.top1 or 0) for entry in entries]
    ratio = max(macs) / min(macs)
    spread = max(accuracies) - min(accuracies)
    axes.set_xscale("log")
    axes.set_xlim(min(macs) / max(ratio**0.08, 1.6), max(macs) * max(ratio**0.08, 1.6))
    axes.set_ylim(min(accuracies) - max(0.12 * spread, 1), min(100.5, max(accuracies) + max(0.12 * spread, 1)))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(LogLocator(subs=range(1, 10)))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.set_xlabel("multiply-accumulates of one image, in 10⁹")
    axes.set_ylabel("top-1 accuracy, %")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _name_families(axes: Axes, families: set[str], colours: dict[str, str]) -> None:
    """At the right, beside the picture, where nothing else is."""
    from matplotlib.lines import Line2D

    named = [family for family in colours if family in families]
    marks = [
        Line2D([], [], linestyle="", marker="o", markersize=10, color=colours[family], alpha=0.55, markeredgecolor=_INK)
        for family in named
    ]
    axes.legend(marks, named, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)


def _show_sizes(axes: Axes, most: int) -> None:
    """Circles of round numbers of parameters, one in the other, at the lower right."""
    from matplotlib.patches import Circle as Ring

    figure = axes.get_figure()
    assert figure is not None
    inches = figure.dpi_scale_trans
    frame = axes.get_window_extent().transformed(inches.inverted())
    radii = {size: _LARGEST_POINTS / 72 * math.sqrt(size / most) for size in _round_sizes(most)}
    largest = max(radii.values())
    x, bottom = frame.x1 + 0.3 + largest, frame.y0 + 0.1
    for size, radius in radii.items():
        ring = Ring(
            (x, bottom + radius), radius, transform=inches, fill=False, edgecolor=_INK, linewidth=0.6, clip_on=False
        )
        axes.add_artist(ring)
        top = bottom + 2 * radius
        axes.plot([x, x + largest + 0.1], [top, top], transform=inches, color="#777777", linewidth=0.5, clip_on=False)
        axes.text(x + largest + 0.14, top, f"{size / 1e6:g} M", transform=inches, fontsize=8, va="center")
    title_at = bottom + 2 * largest + 0.18
    axes.text(x, title_at, "parameters", transform=inches, fontsize=9, ha="center", va="center")


def _round_sizes(most: int) -> list[float]:
    """Three round numbers of parameters, at most that of the largest circle."""
    rounds = [digit * 10.0**power for power in range(3, 12) for digit in (1, 2, 5)]
    largest = max(size for size in rounds if size <= most)
    return [largest / 20, largest / 4, largest]


def _label(figure: Figure, axes: Axes, entries: Sequence[Entry], radii: Sequence[float]) -> None:
    """Each circle's name beside it, with a line to its centre where another circle is as near."""
    pixels_a_point = figure.dpi / 72
    texts = [axes.text(0, 0, entry.name, fontsize=7.5, color=_INK, ha="center", va="center") for entry in entries]
    figure.canvas.draw()
    extents = [text.get_window_extent() for text in texts]
    circles = []
    for entry, radius in zip(entries, radii, strict=True):
        x, y = axes.transData.transform((entry.macs / 1e9, 100 * (entry.top1 or 0)))
        circles.append(Circle(float(x), float(y), radius * pixels_a_point))
    frame = axes.get_window_extent()
    bounds = Box(frame.x0 + 2, frame.y0 + 2, frame.x1 - 2, frame.y1 - 2)
    boxes = place(circles, [(extent.width, extent.height) for extent in extents], bounds)
    for text, box, circle in zip(texts, boxes, circles, strict=True):
        centre = (box.left + box.right) / 2, (box.bottom + box.top) / 2
        text.set_position(tuple(axes.transData.inverted().transform(centre)))
        gap = _gap(box, circle)
        if any(_gap(box, other) < gap + 6 for other in circles if other is not circle) or gap > 10:
            line = leader(circle, box)
            ends = axes.transData.inverted().transform([(line.to_x, line.to_y), (line.x, line.y)])
            axes.plot(ends[:, 0], ends[:, 1], color=_INK, linewidth=0.4)
            axes.plot(ends[1:, 0], ends[1:, 1], color=_INK, marker="o", markersize=1.5)


def _gap(box: Box, circle: Circle) -> float:
    """Pixels from a box to a circle's edge; below 0 where they meet."""
    line = leader(circle, box)
    return math.hypot(line.to_x - line.x, line.to_y - line.y) - circle.radius
