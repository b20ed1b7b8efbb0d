"""Independent policy for each decision, trained by REINFORCE: Williams 1992."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from convoy.search.architecture.baseline import MovingBaseline
from convoy.search.architecture.decisions import ArchitectureSpace, Trained, Values


@dataclass
class Reinforce:
    """Softmax over the choices of each decision, moved along the policy gradient after each network.

    Attributes:
        space: of the networks.
        learning_rate: step of the logits per standard deviation of the reward.
        decay: weight of the old moving average of the rewards, the baseline.
    """

    space: ArchitectureSpace
    learning_rate: float = 0.2
    decay: float = 0.9
    _learned: list[Trained] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        self._reset()

    def ask(self, trained: Sequence[Trained], rng: Random) -> Values:
        """Draw all decisions from the policy that follows from the trained networks."""
        if self._learned != trained[: len(self._learned)]:
            self._reset()  # with several workers, an earlier trial can end after a later one
        for one in trained[len(self._learned) :]:
            advantage = self._baseline.advantage(one.reward)
            for logits, slopes in zip(self.logits, self.log_gradient(one.values), strict=True):
                for choice, slope in enumerate(slopes):
                    logits[choice] += self.learning_rate * advantage * slope
            self._learned.append(one)
        return tuple(rng.choices(range(len(logits)), softmax(logits))[0] for logits in self.logits)

    def log_gradient(self, values: Values) -> list[list[float]]:
        """Return the gradient of log p(network) for the logits: one-hot minus softmax, zero if a decision is unused."""
        used = self.space.used(values)
        return [
            [
                (choice == values[index]) - share if index in used else 0.0
                for choice, share in enumerate(softmax(logits))
            ]
            for index, logits in enumerate(self.logits)
        ]

    def _reset(self) -> None:
        self.logits = [[0.0] * len(one.choices) for one in self.space.decisions]
        self._baseline = MovingBaseline(self.decay)
        self._learned = []


def softmax(logits: Sequence[float]) -> list[float]:
    """Return the probabilities of logits."""
    most = max(logits)
    weights = [math.exp(value - most) for value in logits]
    return [weight / sum(weights) for weight in weights]
