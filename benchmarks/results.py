"""Results of benchmarks and tables of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

HEADS = ("benchmark", "comparison", "median (range)", "null", "goal", "met", "share of ceiling", "others' cores")
NONE = "–"


@dataclass(frozen=True)
class Goal:
    """Lower or upper bound for the median of a result."""

    bound: float
    at_least: bool = True

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


@dataclass(frozen=True)
class Result:
    """Measurements of one implementation, usually relative to another.

    Attributes:
        title: Measured work.
        ours: Name of the measured implementation.
        peer: Name of the implementation that it is compared with; None if there is none.
        values: Value of each round (or case), in `unit`.
        null: Null control of each round, the peer compared with itself, in `null_unit`.
        goal: Goal for the median; None if there is none.
        unit: Unit of the values.
        null_unit: Unit of the null control; None if it is that of the values.
        ceiling: Name of an arm that does only the unavoidable part of the work; None if there is none.
        of_ceiling: Our rate divided by the ceiling's, per round.
        rate: Our median rate per second, if `values` are ratios of rates.
        peer_rate: Median rate of the peer per second, if `values` are ratios of rates.
        busy_cores: Cores that other processes used, per round.
        digits: Decimal places of the values.
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
        """Median of the values."""
        return statistics.median(self.values)

    @property
    def is_met(self) -> bool | None:
        """Result of the comparison with the goal; None without a goal."""
        return None if self.goal is None else self.goal.is_met(self.median)

    def comparison(self) -> str:
        """Return the title with the names and rates of both sides."""
        against = f" against {self.peer}" if self.peer else ""
        rates = ""
        if self.rate is not None and self.peer_rate is not None:
            rates = f" ({_rate(self.rate)} against {_rate(self.peer_rate)} per second)"
        return f"{self.title}: {self.ours}{against}{rates}"

    def cells(self) -> list[str]:
        """Return the cells of a table row in the order of `HEADS`, without the first."""
        null_unit = self.null_unit or self.unit
        null = spread(self.null, 2 if null_unit == "times" else self.digits) if self.null else NONE
        if self.null and null_unit != "times":
            null += f" {null_unit}"
        return [
            self.comparison(),
            f"{spread(self.values, self.digits)} {self.unit}",
            null,
            NONE if self.goal is None else str(self.goal),
            {None: NONE, True: "yes", False: "no"}[self.is_met],
            f"{statistics.median(self.of_ceiling):.2f} of {self.ceiling}" if self.of_ceiling else NONE,
            f"{statistics.median(self.busy_cores):.2f}" if self.busy_cores else NONE,
        ]

    def line(self) -> str:
        """Return the result as one line, with the names of the columns."""
        comparison, value, *others = self.cells()
        named = [f"{head} {cell}" for head, cell in zip(HEADS[3:], others, strict=True) if cell != NONE]
        return "; ".join([f"{comparison}: {value}", *named])


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(values: Sequence[float], digits: int) -> str:
    """Return the median and range as text."""
    median, least, most = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{median} ({least} to {most})"


def table(results: Sequence[tuple[str, Result]]) -> str:
    """Return a table for a terminal. `results` are pairs of a benchmark's name and a result."""
    rows = [HEADS, *((name, *result.cells()) for name, result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def markdown(results: Sequence[tuple[str, Result]], notes: Sequence[str]) -> str:
    """Return a Markdown table of results, with `notes` as lines above it."""
    rows = [HEADS, ("---",) * len(HEADS), *((f"`{name}`", *result.cells()) for name, result in results)]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*notes, "", *lines]) + "\n"
