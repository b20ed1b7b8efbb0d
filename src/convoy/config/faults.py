"""User mistakes, reported with key, value, rule and remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any


@dataclass(frozen=True)
class Fault:
    """Mistake in a config, an option or a file.

    Attributes:
        key: full key, as written on the command line (``trainer.gpus``).
        rule: violated rule as a clause ("no such key", "must be at least 1").
        remedy: correction as a clause; empty if it follows from the rule.
        value: value as written by the user; None if the fault has no value.
    """

    key: str
    rule: str
    remedy: str = ""
    value: str | None = None

    def __str__(self) -> str:
        given = self.key if self.value is None else f"{self.key}={self.value}"
        return printable(f"{given}: {self.rule}" + (f"; {self.remedy}" if self.remedy else ""))


def fault_of(key: str, value: Any, rule: str, remedy: str = "") -> Fault:
    """Return a fault with `value` as it is written on the command line."""
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    written = f"[{','.join(map(str, value))}]" if is_list else "null" if value is None else str(value)
    return Fault(key, rule, remedy, written.lower() if isinstance(value, bool) else written)


class UserError(Exception):
    """Error with one or several faults. Commands print them and exit with code 2."""

    def __init__(self, *faults: Fault) -> None:
        self.faults: tuple[Fault, ...] = faults
        super().__init__("\n".join(str(fault) for fault in faults))


def closest(word: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the name most similar to `word`, or None if no name is similar.

    The last part of a dotted name is also compared separately, so that `trainer.gpu` finds `trainer.gpus` and
    `max_epoch` finds `trainer.max_epochs`. The only name whose last part is `word` comes first.
    """
    candidates: Sequence[str] = list(names)
    same = [name for name in candidates if name.rsplit(".", 1)[-1] == word]
    if len(same) == 1:
        return same[0]
    lowered = {name.lower(): name for name in reversed(candidates)}
    found = get_close_matches(word.lower(), lowered, n=1, cutoff=cutoff)
    if found:
        return lowered[found[0]]
    tails = {name.rsplit(".", 1)[-1].lower(): name for name in reversed(candidates)}
    found = get_close_matches(word.rsplit(".", 1)[-1].lower(), tails, n=1, cutoff=0.75)
    return tails[found[0]] if found else None


def did_you_mean(word: str, names: Iterable[str], otherwise: str = "") -> str:
    """Return the remedy "did you mean X?", or `otherwise` if no name is similar."""
    match = closest(word, names)
    return f"did you mean {match}?" if match else otherwise


def printable(text: str) -> str:
    """Return a text with escapes for control characters and undecodable bytes, which file names may contain."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def one_line(error: Exception, longest: int = 300) -> str:
    """Return an error's message on one line, at most `longest` characters; its type if it has no message."""
    return " ".join(str(error).split())[:longest] or type(error).__name__
