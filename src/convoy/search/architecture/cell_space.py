"""Space of cells: a normal and a reduction cell, which the network stacks (Zoph et al. 2017, section 3)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.models.notation.cell_notation import OPERATIONS
from convoy.search.architecture.decisions import Decision

_CELLS = ("normal", "reduction")
_MOST_BLOCKS = 20
_WORDS = {"add": "+", "concat": "concat"}
"""Words of the notation by combination."""


class CellSpace:
    """Space of pairs of cells. Each block decides about two input states, two operations, and their combination.

    Args:
        settings: `blocks`, the number of blocks per cell; `operations` and `combinations`, lists.

    Attributes:
        operations: that a block may have.
        combinations: "add", "concat" or both. A single one is not a decision.

    Raises:
        UserError: a setting is wrong.
    """

    option = "nasnet_mobile"

    def __init__(self, settings: Any) -> None:
        defaults = {"blocks": 5, "operations": list(OPERATIONS), "combinations": ["add"]}
        given = {**defaults, **(settings if isinstance(settings, Mapping) else {})}
        faults = _faults(settings, given)
        if faults:
            raise UserError(*faults)
        self._blocks: int = given["blocks"]
        self.operations: tuple[str, ...] = tuple(dict.fromkeys(given["operations"]))
        self.combinations: tuple[str, ...] = tuple(dict.fromkeys(given["combinations"]))
        self.decisions = tuple(
            decision
            for cell in _CELLS
            for block in range(self._blocks)
            for decision in self._block_decisions(f"{cell} {block}", tuple(range(block + 2)))
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

    def _block_decisions(self, name: str, states: tuple[int, ...]) -> Iterator[Decision]:
        for side in (1, 2):
            yield Decision(f"{name} operation {side}", self.operations)
            yield Decision(f"{name} input {side}", states)
        if len(self.combinations) > 1:
            yield Decision(f"{name} combination", self.combinations)

    def _cells(self, values: Sequence[int]) -> list[list[str]]:
        chosen = [one.choices[value] for one, value in zip(self.decisions, values, strict=True)]
        size = len(chosen) // (2 * self._blocks)
        blocks = []
        for start in range(0, len(chosen), size):
            one, state, other, second, *combination = chosen[start : start + size]
            word = _WORDS[str((combination or self.combinations)[0])]
            blocks.append(f"{one} {state} {word} {other} {second}")
        return [blocks[: self._blocks], blocks[self._blocks :]]


def _faults(settings: Any, given: Mapping[str, Any]) -> list[Fault]:
    where = "architecture.cells"
    if not isinstance(settings, Mapping):
        return [Fault(where, "is not a mapping", "write cells: {blocks: 5, operations: [identity, max, separable3]}")]
    known = ("blocks", "operations", "combinations")
    faults = [
        Fault(f"{where}.{key}", "no such setting", did_you_mean(str(key), known, f"choose from {', '.join(known)}"))
        for key in settings
        if key not in known
    ]
    blocks = given["blocks"]
    if type(blocks) is not int or not 1 <= blocks <= _MOST_BLOCKS:
        faults.append(Fault(f"{where}.blocks", f"must be an integer from 1 to {_MOST_BLOCKS}", "", str(blocks)))
    for key, choices in (("operations", OPERATIONS), ("combinations", _WORDS)):
        faults += _list_faults(f"{where}.{key}", given[key], choices)
    return faults


def _list_faults(where: str, given: Any, choices: Collection[str]) -> list[Fault]:
    remedy = f"choose from {', '.join(choices)}"
    if not isinstance(given, list) or not given:
        return [Fault(where, "must be a list", remedy, str(given))]
    rule = f"no such {where.rpartition('.')[2][:-1]}"
    return [
        Fault(where, rule, did_you_mean(str(name), choices, remedy), str(name)) for name in given if name not in choices
    ]
