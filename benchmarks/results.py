"""What a benchmark found, as a record, and tables of many of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

HEADS = ("benchmark", "what", "median (range)", "null", "goal", "met", "of the ceiling", "others' cores")
NONE = "–"


@dataclass(frozen=True)
class Goal:
    """A bound for the median: the least that it should be, or the most."""

    bound: float
    at_least: bool = True

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


@dataclass(frozen=True)
class Result:
    """One way of doing something against another.

    Attributes:
        title: what was done.
        ours: whose figure it is.
        peer: what it is set against; None: against nothing, the figure stands for itself.
        values: of each round (or case), in `unit`.
        null: of each round, the peer against itself, in `null_unit`.
        goal: what is aimed at; None: nothing, it is only told.
        unit: of the values.
        null_unit: of the null control; None: that of the values.
        ceiling: what does only what no way can do without; None: there is nothing such.
        of_ceiling: of each round, our rate over the ceiling's.
        rate, peer_rate: medians, a second, of ours and the peer's, where `values` are ratios of them.
        busy_cores: of each round, cores that other processes took.
        digits: of the values behind the point.
    """

    title: str
    ours: str
    peer: str | None
    values: Sequence[float]
    null: Sequence[float] = ()
    goal: Goal | None = None
    unit: str = "times"
    null_unit: str | None = None
    ceiling: str | None = None
    of_ceiling: Sequence[float] = ()
    rate: float | None = None
    peer_rate: float | None = None
    busy_cores: Sequence[float] = field(default_factory=list)
    digits: int = 2

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def is_met(self) -> bool | None:
        """None: there is no goal."""
        return None if self.goal is None else self.goal.is_met(self.median)

    def what(self) -> str:
        against = f" against {self.peer}" if self.peer else ""
        rates = ""
        if self.rate is not None and self.peer_rate is not None:
            rates = f" ({_rate(self.rate)} against {_rate(self.peer_rate)} a second)"
        return f"{self.title}: {self.ours}{against}{rates}"

    def cells(self) -> list[str]:
        """Of a table's row, in the order of `HEADS` from its second."""
        null_unit = self.null_unit or self.unit
        null = spread(self.null, 2 if null_unit == "times" else self.digits) if self.null else NONE
        if self.null and null_unit != "times":
            null += f" {null_unit}"
        return [
            self.what(),
            f"{spread(self.values, self.digits)} {self.unit}",
            null,
            NONE if self.goal is None else str(self.goal),
            {None: NONE, True: "yes", False: "no"}[self.is_met],
            f"{statistics.median(self.of_ceiling):.2f} of {self.ceiling}" if self.of_ceiling else NONE,
            f"{statistics.median(self.busy_cores):.2f}" if self.busy_cores else NONE,
        ]

    def line(self) -> str:
        """All of it, with the names of a table's columns."""
        what, value, *others = self.cells()
        told = [f"{head} {cell}" for head, cell in zip(HEADS[3:], others, strict=True) if cell != NONE]
        return "; ".join([f"{what}: {value}", *told])


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(values: Sequence[float], digits: int) -> str:
    """Median and range."""
    median, least, most = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{median} ({least} to {most})"


def table(results: Sequence[tuple[str, Result]]) -> str:
    """For a terminal. `results` are pairs of a benchmark's name and what it found."""
    rows = [HEADS, *((name, *result.cells()) for name, result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def markdown(results: Sequence[tuple[str, Result]], notes: Sequence[str]) -> str:
    """The same for a document, `notes` on lines of their own above it."""
    rows = [HEADS, ("---",) * len(HEADS), *((f"`{name}`", *result.cells()) for name, result in results)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*notes, "", *lines]) + "\n"
