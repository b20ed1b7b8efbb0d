"""Notation of cells: the graphs that NASNet and AmoebaNet stack. Imports no torch.

A cell is a list of blocks, each the sum of two operations on two states: ``separable5 0 + max 1``, or their
concatenation along the channels: ``separable5 0 concat max 1``. State 0 is the output of the previous cell, state 1
that of the cell before it, and each block adds a state: the first is state 2. The output is the concatenation of the
states that no block uses, or of those of a last entry ``output 1 3 4``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convoy.config.faults import Fault, UserError, did_you_mean

OPERATIONS = {
    "identity": "no operation",
    "average": "average pooling over 3x3",
    "max": "max pooling over 3x3",
    "convolution1": "1x1 convolution",
    "convolution3": "3x3 convolution",
    "separable3": "two separable 3x3 convolutions",
    "separable5": "two separable 5x5 convolutions",
    "separable7": "two separable 7x7 convolutions",
    "dilated3": "separable 3x3 convolution with dilation 2",
    "dilated5": "separable 5x5 convolution with dilation 2",
    "factorized7": "1x7 and 7x1 convolution on a quarter of the channels",
}
"""Operations of a block. At stride 2, identity is a 1x1 convolution."""

_BLOCK = re.compile(r"(\w+) (\d+) (\+|concat) (\w+) (\d+)")
_OUTPUT = re.compile(r"output((?: \d+)+)")
_EXAMPLE = "write a block such as 'separable3 0 + max 1'"


@dataclass(frozen=True)
class Cell:
    """Graph of a cell.

    Attributes:
        blocks: two pairs of an operation and its input state, per block.
        output: states that are concatenated along the channels.
        concatenated: states of the blocks that concatenate their two results instead of adding them.
    """

    blocks: tuple[tuple[tuple[str, int], tuple[str, int]], ...]
    output: tuple[int, ...]
    concatenated: frozenset[int] = frozenset()

    @property
    def states(self) -> frozenset[int]:
        """States that the blocks or the output use."""
        return frozenset(self.output).union(state for pairs in self.blocks for _, state in pairs)


def parse_cell(texts: Any, key: str, *, reduces: bool) -> Cell:
    """Return a cell from its texts.

    Args:
        texts: blocks, and optionally the output.
        key: of the texts in the config, for messages.
        reduces: whether the blocks halve height and width; the output can't contain states 0 and 1 then.

    Raises:
        UserError: a text is not in the notation, or a state does not exist.
    """
    if not isinstance(texts, Sequence) or isinstance(texts, str) or not texts:
        raise UserError(Fault(key, "must be a list of blocks", _EXAMPLE))
    blocks: list[tuple[tuple[str, int], tuple[str, int]]] = []
    output: tuple[int, ...] | None = None
    concatenated = set()
    for index, text in enumerate(texts):
        where = f"{key}[{index}]"
        if index and index == len(texts) - 1 and (match := _OUTPUT.fullmatch(str(text))):
            output = tuple(int(state) for state in match[1].split())
            _demand_states(output, len(blocks) + 2, where, text)
            continue
        match = _BLOCK.fullmatch(str(text))
        if not match:
            raise UserError(Fault(where, "is not a block", _EXAMPLE, str(text)))
        pairs = (match[1], int(match[2])), (match[4], int(match[5]))
        for operation, _ in pairs:
            if operation not in OPERATIONS:
                near = did_you_mean(operation, OPERATIONS, f"choose from {', '.join(OPERATIONS)}")
                raise UserError(Fault(where, f"has no operation {operation}", near, str(text)))
        _demand_states([state for _, state in pairs], len(blocks) + 2, where, text)
        blocks.append(pairs)
        if match[3] == "concat":
            concatenated.add(len(blocks) + 1)
    if output is None:
        used = Cell(tuple(blocks), ()).states
        output = tuple(state for state in range(2, len(blocks) + 2) if state not in used)
    if reduces and min(output) < 2:
        rule = "states 0 and 1 are larger than the blocks of a reduction"
        raise UserError(Fault(key, rule, "write states of 2 or more in its output", str(texts[-1])))
    return Cell(tuple(blocks), output, frozenset(concatenated))


def _demand_states(states: Sequence[int], count: int, where: str, text: str) -> None:
    if max(states) >= count:
        rule = f"there is no state {max(states)} yet"
        raise UserError(Fault(where, rule, f"choose from 0 to {count - 1}", text))
