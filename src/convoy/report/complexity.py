"""Plot of a metric and MACs, with circles in proportion to the number of parameters.

After Canziani et al. 2016 (arXiv:1605.07678), figure 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convoy.config.cards import FAMILIES
from convoy.evaluation.comparison import OTHERS, Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito 2008, readable with colour blindness; two colours are from Tol's muted scheme.
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
    "#44AA99",
    "#AA4499",
    "#661100",
    "#999999",
)
_INK = "#222222"
_LARGEST_POINTS = 30.0
"""Radius of the circle of the network with the most parameters, in points of 1/72 inch."""
_ITERATIONS = 300
"""Iterations of label placement; a number instead of a time limit makes the image reproducible."""


def draw(entries: Sequence[Entry], title: str) -> Figure:
    """Draw the entries that have a value, at least one.

    Raises:
        ValueError: their metrics differ.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    entries = [entry for entry in entries if entry.value is not None and entry.macs]
    if len({entry.metric for entry in entries}) > 1:
        raise ValueError("entries of different metrics")
    figure = Figure(figsize=(12, 8), dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.07, 0.08, 0.78, 0.86))
    most = max(entry.params for entry in entries)
    radii = [_LARGEST_POINTS * math.sqrt(entry.params / most) for entry in entries]
    colours = dict(zip([*FAMILIES, OTHERS], _COLOURS, strict=True))
    for entry, radius in sorted(zip(entries, radii, strict=True), key=lambda pair: -pair[1]):
        axes.scatter(
            entry.macs / 1e9,
            _height(entry),
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
    _label(axes, entries)
    return figure


def _height(entry: Entry) -> float:
    """Return the value of an entry on the axis: fractions in percent."""
    value = entry.value or 0.0
    return 100 * value if entry.is_fraction else value


def save(figure: Figure, path: Path) -> None:
    """Write the image in the format of the path's suffix. Equal figures give equal bytes."""
    metadata = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    figure.savefig(path, metadata=metadata.get(path.suffix, {}))


def _scale(axes: Axes, entries: Sequence[Entry]) -> None:
    """Set a logarithmic axis of MACs and a linear axis of the metric, with room around the circles."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    macs = [entry.macs / 1e9 for entry in entries]
    heights = [_height(entry) for entry in entries]
    ratio = max(macs) / min(macs)
    spread = max(heights) - min(heights)
    in_percent = entries[0].is_fraction
    least = 1.0 if in_percent else 0.1 * abs(max(heights)) or 1.0
    top = max(heights) + max(0.12 * spread, least)
    axes.set_xscale("log")
    axes.set_xlim(min(macs) / max(ratio**0.08, 1.6), max(macs) * max(ratio**0.08, 1.6))
    axes.set_ylim(min(heights) - max(0.12 * spread, least), min(100.5, top) if in_percent else top)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(LogLocator(subs=range(1, 10)))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.set_xlabel("multiply-accumulates of one image, in 10⁹")
    axes.set_ylabel(f"{entries[0].metric}, %" if in_percent else str(entries[0].metric))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _name_families(axes: Axes, families: set[str], colours: dict[str, str]) -> None:
    """Add a legend of the families to the right of the axes."""
    from matplotlib.lines import Line2D

    named = [family for family in colours if family in families]
    marks = [
        Line2D([], [], linestyle="", marker="o", markersize=10, color=colours[family], alpha=0.55, markeredgecolor=_INK)
        for family in named
    ]
    axes.legend(marks, named, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8.5)


def _show_sizes(axes: Axes, most: int) -> None:
    """Draw nested circles for round numbers of parameters at the lower right."""
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
    """Return three round numbers of parameters, none above `most`."""
    rounds = [digit * 10.0**power for power in range(12) for digit in (1, 2, 5)]
    largest = max(size for size in rounds if size <= most)
    return [largest / 20, largest / 4, largest]


def _label(axes: Axes, entries: Sequence[Entry]) -> None:
    """Write the name of each entry near its circle, with a line to the circle's centre if they are apart."""
    from adjustText import adjust_text

    x = [entry.macs / 1e9 for entry in entries]
    y = [_height(entry) for entry in entries]
    texts = [
        axes.text(macs, height, entry.name, fontsize=7.5, color=_INK, ha="center", va="center")
        for macs, height, entry in zip(x, y, entries, strict=True)
    ]
    adjust_text(
        texts,
        ax=axes,
        target_x=x,
        target_y=y,
        expand=(1.15, 1.5),
        force_text=(0.3, 0.5),
        force_static=(0.05, 0.1),
        min_arrow_len=8,
        iter_lim=_ITERATIONS,
        arrowprops={"arrowstyle": "-", "color": _INK, "linewidth": 0.4},
    )
