"""Independent policy for each decision, trained by REINFORCE: Williams 1992."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from convoy.search.architecture.decisions import Values
from convoy.search.architecture.policy import Policy


@dataclass
class Reinforce(Policy):
    """Softmax over the choices of each decision.

    Attributes:
        learning_rate: step of the logits per standard deviation of the reward.
    """

    learning_rate: float = 0.2
    decay: float = 0.9

    def reset(self) -> None:
        """Make all choices equally probable."""
        self.logits = [[0.0] * len(one.choices) for one in self.space.decisions]

    def learn(self, values: Values, advantage: float) -> None:
        """Add the gradient to the logits."""
        for logits, slopes in zip(self.logits, self.log_gradient(values), strict=True):
            for choice, slope in enumerate(slopes):
                logits[choice] += self.learning_rate * advantage * slope

    def draw(self, rng: Random) -> Values:
        """Draw all decisions, each with its own probabilities."""
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


def softmax(logits: Sequence[float]) -> list[float]:
    """Return the probabilities of logits."""
    most = max(logits)
    weights = [math.exp(value - most) for value in logits]
    return [weight / sum(weights) for weight in weights]
