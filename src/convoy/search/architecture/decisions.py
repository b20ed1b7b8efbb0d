"""Architecture as a sequence of categorical decisions: all that a sampler knows of a space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

Values = tuple[int, ...]
"""Index of the choice per decision."""


@dataclass(frozen=True)
class Decision:
    """Categorical decision.

    Attributes:
        name: unique in its space.
        choices: plain values, without duplicates.
    """

    name: str
    choices: tuple[str | int | float, ...]


@dataclass(frozen=True)
class Trained:
    """Decisions of a trained network and its reward; a larger reward is better."""

    values: Values
    reward: float


class ArchitectureSpace(Protocol):
    """Set of networks."""

    option: str
    """Option of conf/model whose keys `decode` sets."""
    decisions: tuple[Decision, ...]

    def decode(self, values: Sequence[int]) -> Mapping[str, Any]:
        """Return the keys of the config that the decisions set, such as `model.layers`."""

    def used(self, values: Sequence[int]) -> frozenset[int]:
        """Return the decisions on which the network depends, beside these values.

        Whether it depends on a decision follows from the decisions before that one.
        """

    def text(self, values: Sequence[int]) -> str:
        """Return the network in one line."""


class Strategy(Protocol):
    """Rule that chooses the next network from those trained so far."""

    def ask(self, trained: Sequence[Trained], rng: Random) -> Values:
        """Return decisions, which follow from the arguments alone.

        Args:
            trained: networks with a result, in the order of their trials.
            rng: source of randomness of this trial.
        """


@dataclass(frozen=True)
class UniformDraws:
    """Random search, the baseline of the others."""

    space: ArchitectureSpace

    def ask(self, trained: Sequence[Trained], rng: Random) -> Values:
        """Draw all decisions uniformly."""
        return drawn(self.space, rng)


def drawn(space: ArchitectureSpace, rng: Random) -> Values:
    """Draw all decisions uniformly."""
    return tuple(rng.randrange(len(one.choices)) for one in space.decisions)


def mutated(space: ArchitectureSpace, values: Values, rng: Random) -> Values:
    """Change one used decision to another choice, both drawn uniformly.

    Decisions with one choice can't change; a space that has no others returns its only network.
    """
    free = [index for index in sorted(space.used(values)) if len(space.decisions[index].choices) > 1]
    if not free:
        return values
    index = rng.choice(free)
    others = [choice for choice in range(len(space.decisions[index].choices)) if choice != values[index]]
    return (*values[:index], rng.choice(others), *values[index + 1 :])
