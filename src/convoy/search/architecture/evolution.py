"""Regularized evolution: Real et al. 2019 (arXiv:1802.01548), algorithm 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from convoy.search.architecture.decisions import ArchitectureSpace, Trained, Values, drawn, mutated


@dataclass(frozen=True)
class Evolution:
    """Evolution that removes the oldest member of the population, not the worst.

    The population is the last `population` trained networks. The first ones are drawn at random; then the best of
    `sample` members, drawn with replacement, has a child with one mutation.

    Attributes:
        space: of the networks.
        population: number of members, P in the paper.
        sample: number of members that compete to be the parent, S in the paper.
    """

    space: ArchitectureSpace
    population: int = 20
    sample: int = 5

    def ask(self, trained: Sequence[Trained], rng: Random) -> Values:
        """Return a random network, or a mutation of the best of a sample."""
        if len(trained) < self.population:
            return drawn(self.space, rng)
        members = trained[-self.population :]
        parent = max((rng.choice(members) for _ in range(self.sample)), key=lambda one: one.reward)
        return mutated(self.space, parent.values, rng)
