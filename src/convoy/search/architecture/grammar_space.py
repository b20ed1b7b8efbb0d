"""Space of lists of texts, such as the layers of a chain: a grammar of alternatives, repetitions and optional parts.

An entry of the grammar is one of

- a text in which `(a|b|c)` is a decision: `CONV(3|5)-(8|16) (relu|elu)`, or `(BN|)`, which may be left out;
- `{repeat: [1, 2, 3], of: [entries]}`, a decision about the number, and separate decisions for each repetition;
- `{choice: [[entries], [entries]]}`, a decision between sequences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from convoy.config.faults import Fault, UserError
from convoy.search.architecture.decisions import Decision

_GROUP = re.compile(r"\(([^()]*\|[^()]*)\)")
_FORMS = "write a text, {repeat: [1, 2], of: [entries]} or {choice: [[entries], [entries]]}"
_MOST_DECISIONS = 500


@dataclass(frozen=True)
class _Text:
    """Text with the indices of its decisions between the fixed parts."""

    parts: tuple[str, ...]
    decisions: tuple[int, ...]


@dataclass(frozen=True)
class _Repeat:
    """Copies of a sequence, of which the first `counts[decision]` are used."""

    decision: int
    counts: tuple[int, ...]
    copies: tuple[tuple[_Node, ...], ...]


@dataclass(frozen=True)
class _Choice:
    """Sequences of which one is used."""

    decision: int
    options: tuple[tuple[_Node, ...], ...]


_Node = _Text | _Repeat | _Choice


class GrammarSpace:
    """Space of the lists that a grammar derives.

    Args:
        entries: the grammar.

    Attributes:
        option: option of conf/model that contains such a list.
        key: of the list in the config.
        block: key of the grammar in the `architecture` block.

    Raises:
        UserError: an entry is malformed, or can become a text that is not in the notation.
    """

    option: str
    key: str
    block: str

    def __init__(self, entries: Any) -> None:
        self._decisions: list[Decision] = []
        self._nodes = self._sequence(entries, "")
        self.decisions = tuple(self._decisions)

    def decode(self, values: Sequence[int]) -> Mapping[str, Any]:
        """Return the list."""
        return {self.key: self.texts(values)}

    def texts(self, values: Sequence[int]) -> list[str]:
        """Return the texts of a network."""
        return [token for token in self._walk(self._nodes, values, set()) if token]

    def used(self, values: Sequence[int]) -> frozenset[int]:
        """Return the decisions outside of sequences that are left out."""
        met: set[int] = set()
        list(self._walk(self._nodes, values, met))
        return frozenset(met)

    def text(self, values: Sequence[int]) -> str:
        """Return the texts, separated by commas."""
        return ", ".join(self.texts(values))

    def check(self, text: str) -> None:
        """Raise a UserError if a text is not in the notation."""
        raise NotImplementedError

    def _walk(self, nodes: Sequence[_Node], values: Sequence[int], met: set[int]) -> Iterator[str]:
        """Yield the texts, empty ones included, and add the decisions that are used to `met`."""
        for node in nodes:
            if isinstance(node, _Text):
                met.update(node.decisions)
                words = [str(self._decisions[index].choices[values[index]]) for index in node.decisions]
                pieces = [node.parts[0]]
                for word, part in zip(words, node.parts[1:], strict=True):
                    pieces += [word, part]
                yield " ".join("".join(pieces).split())
                continue
            met.add(node.decision)
            if isinstance(node, _Repeat):
                for copy in node.copies[: node.counts[values[node.decision]]]:
                    yield from self._walk(copy, values, met)
            else:
                yield from self._walk(node.options[values[node.decision]], values, met)

    def _sequence(self, entries: Any, path: str) -> tuple[_Node, ...]:
        where = f"architecture.{self.block}{path}"
        if not isinstance(entries, list) or not (entries or path):
            raise UserError(Fault(where, "is not a list of entries", _FORMS))
        return tuple(self._entry(entry, f"{path}[{index}]") for index, entry in enumerate(entries))

    def _entry(self, entry: Any, path: str) -> _Node:
        if isinstance(entry, str):
            return self._text(entry, path)
        where = f"architecture.{self.block}{path}"
        match entry:
            case {"repeat": counts, "of": entries, **others} if not others:
                listed = counts if isinstance(counts, list) else [counts]
                if not listed or any(type(count) is not int or count < 0 for count in listed):
                    rule = "must be a number or a list of numbers, 0 or more"
                    raise UserError(Fault(f"{where}.repeat", rule, "write repeat: [1, 2, 3]", str(counts)))
                listed = list(dict.fromkeys(listed))
                decision = self._decide(path, listed)
                copies = tuple(self._sequence(entries, f"{path}.of") for _ in range(max(listed)))
                return _Repeat(decision, tuple(listed), copies)
            case {"choice": [*options], **others} if options and not others:
                decision = self._decide(path, range(len(options)))
                sequences = (self._sequence(one, f"{path}.choice[{index}]") for index, one in enumerate(options))
                return _Choice(decision, tuple(sequences))
        raise UserError(Fault(where, "is no entry of a grammar", _FORMS, str(entry)))

    def _text(self, entry: str, path: str) -> _Text:
        pieces = _GROUP.split(entry)  # fixed parts and groups by turns
        groups = [list(dict.fromkeys(group.split("|"))) for group in pieces[1::2]]
        faults: dict[tuple[str, str], Fault] = {}
        for words in product(*groups):
            token = "".join(part + word for part, word in zip(pieces[::2], (*words, ""), strict=True))
            try:
                if token := " ".join(token.split()):
                    self.check(token)
            except UserError as error:
                for fault in error.faults:
                    named = Fault(f"architecture.{self.block}{path}", fault.rule, fault.remedy, token)
                    faults.setdefault((fault.rule, fault.remedy), named)
        if faults:
            raise UserError(*faults.values())
        return _Text(tuple(pieces[::2]), tuple(self._decide(path, group) for group in groups))

    def _decide(self, path: str, choices: Sequence[str | int]) -> int:
        """Add a decision and return its index."""
        if len(self._decisions) == _MOST_DECISIONS:
            rule = f"has more than {_MOST_DECISIONS} decisions"
            raise UserError(Fault(f"architecture.{self.block}", rule, "shorten the repetitions"))
        self._decisions.append(Decision(f"{len(self._decisions)}: {path}", tuple(choices)))
        return len(self._decisions) - 1
