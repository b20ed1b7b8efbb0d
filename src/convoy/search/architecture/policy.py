"""Policy over the decisions of a space that learns from rewards, one network after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from convoy.search.architecture.baseline import MovingBaseline
from convoy.search.architecture.decisions import ArchitectureSpace, Trained, Values


@dataclass
class Policy(ABC):
    """Strategy that moves along the policy gradient after each network.

    Attributes:
        space: of the networks.
        learning_rate: of the policy.
        decay: weight of the old moving average of the rewards, the baseline.
    """

    space: ArchitectureSpace
    learning_rate: float
    decay: float
    _learned: list[Trained] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        self._forget()

    def ask(self, trained: Sequence[Trained], rng: Random) -> Values:
        """Draw a network from the policy that follows from the trained networks."""
        if self._learned != trained[: len(self._learned)]:
            self._forget()  # with several workers, an earlier trial can end after a later one
        for one in trained[len(self._learned) :]:
            self.learn(one.values, self._baseline.advantage(one.reward))
            self._learned.append(one)
        return self.draw(rng)

    def _forget(self) -> None:
        self._baseline = MovingBaseline(self.decay)
        self._learned = []
        self.reset()

    @abstractmethod
    def reset(self) -> None:
        """Return to the policy before the first network."""

    @abstractmethod
    def learn(self, values: Values, advantage: float) -> None:
        """Move along the gradient of the log probability of a network, multiplied by its advantage."""

    @abstractmethod
    def draw(self, rng: Random) -> Values:
        """Draw a network."""
