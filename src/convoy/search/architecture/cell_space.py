"""Space of cells: a normal and a reduction cell, which the network stacks (Zoph et al. 2017, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.models.cell_notation import OPERATIONS
from convoy.search.architecture.decisions import Decision

_CELLS = ("normal", "reduction")
_MOST_BLOCKS = 20


class CellSpace:
    """Space of pairs of cells. Each block decides about two input states and two operations, whose results are added.

    Args:
        settings: `blocks`, the number of blocks per cell, and `operations`, a list.

    Attributes:
        operations: that a block may have.

    Raises:
        UserError: a setting is wrong.
    """

    option = "nasnet_mobile"

    def __init__(self, settings: Any) -> None:
        given = {"blocks": 5, "operations": list(OPERATIONS), **(settings if isinstance(settings, Mapping) else {})}
        faults = _faults(settings, given)
        if faults:
            raise UserError(*faults)
        self._blocks: int = given["blocks"]
        self.operations: tuple[str, ...] = tuple(dict.fromkeys(given["operations"]))
        self.decisions = tuple(
            Decision(f"{cell} {block} {kind} {side}", choices)
            for cell in _CELLS
            for block in range(self._blocks)
            for side in (1, 2)
            for kind, choices in (("operation", self.operations), ("input", tuple(range(block + 2))))
        )

    def decode(self, values: Sequence[int]) -> Mapping[str, Any]:
        """Return the blocks of both cells."""
        return {f"model.{cell}": blocks for cell, blocks in zip(_CELLS, self._cells(values), strict=True)}

    def used(self, values: Sequence[int]) -> frozenset[int]:
        """Return all decisions: a state that no block uses is part of the output."""
        return frozenset(range(len(self.decisions)))

    def text(self, values: Sequence[int]) -> str:
        """Return the blocks of both cells, separated by commas."""
        return "; ".join(
            f"{cell}: {', '.join(blocks)}" for cell, blocks in zip(_CELLS, self._cells(values), strict=True)
        )

    def _cells(self, values: Sequence[int]) -> list[list[str]]:
        chosen = [one.choices[value] for one, value in zip(self.decisions, values, strict=True)]
        blocks = [
            "{} {} + {} {}".format(*chosen[start : start + 4])  # two pairs of an operation and its input
            for start in range(0, len(chosen), 4)
        ]
        return [blocks[: self._blocks], blocks[self._blocks :]]


def _faults(settings: Any, given: Mapping[str, Any]) -> list[Fault]:
    where = "architecture.cells"
    if not isinstance(settings, Mapping):
        return [Fault(where, "is not a mapping", "write cells: {blocks: 5, operations: [identity, max, separable3]}")]
    known = ("blocks", "operations")
    faults = [
        Fault(f"{where}.{key}", "no such setting", did_you_mean(str(key), known, f"choose from {', '.join(known)}"))
        for key in settings
        if key not in known
    ]
    blocks, operations = given["blocks"], given["operations"]
    if type(blocks) is not int or not 1 <= blocks <= _MOST_BLOCKS:
        faults.append(Fault(f"{where}.blocks", f"must be an integer from 1 to {_MOST_BLOCKS}", "", str(blocks)))
    if not isinstance(operations, list) or not operations:
        rule, remedy = "must be a list", f"choose from {', '.join(OPERATIONS)}"
        return [*faults, Fault(f"{where}.operations", rule, remedy, str(operations))]
    return faults + [
        Fault(
            f"{where}.operations",
            "no such operation",
            did_you_mean(str(name), OPERATIONS, f"choose from {', '.join(OPERATIONS)}"),
            str(name),
        )
        for name in operations
        if name not in OPERATIONS
    ]
