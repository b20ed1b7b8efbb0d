"""Memory plans of one training for several cards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType

from convoy.config.faults import UserError
from convoy.ledger.notebook_table import NotebookTable
from convoy.planner.memory_plan import Plan
from convoy.planner.plan_table import HEADS, cells, table


@dataclass(frozen=True, repr=False)
class Plans(NotebookTable):
    """Plans by card.

    Attributes:
        rows: Cards with their plans, or with the reason why there is none.
    """

    rows: tuple[tuple[str, Plan | UserError], ...]

    def __getitem__(self, card: str) -> Plan:
        """Return the plan of a card.

        Raises:
            KeyError: If the card is not among those of the list.
            UserError: If the training is refused on the card.
        """
        found = dict(self.rows)[card]
        if isinstance(found, UserError):
            raise found
        return found

    def rich_table(self, width: int) -> RenderableType:
        """Return one line per card."""
        return table(self.rows)

    def records(self) -> list[dict[str, Any]]:
        """Return one record per card, with a column per category."""
        return [
            plan.records()[0] if isinstance(plan, Plan) else {"hardware": card, "refused": str(plan)}
            for card, plan in self.rows
        ]

    def as_data(self) -> list[dict[str, Any]]:
        """Return plain values for programs, bytes as integers."""
        return [
            plan.as_data() if isinstance(plan, Plan) else {"hardware": card, "refused": str(plan)}
            for card, plan in self.rows
        ]

    def cells(self) -> tuple[Sequence[str], list[Sequence[str]]]:
        """Return one row per card: usable and needed memory, whether it fits, and the largest micro batch."""
        return HEADS, [[str(cell) for cell in cells(card, plan)] for card, plan in self.rows]
