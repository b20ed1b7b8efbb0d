"""Moving average of rewards: the baseline and the scale of policy gradients."""

from __future__ import annotations

import math


class MovingBaseline:
    """Exponential moving average of rewards and of their squared distance from it.

    Args:
        decay: weight of the old average.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._mean: float | None = None
        self._variance = 0.0

    def advantage(self, reward: float) -> float:
        """Return a reward minus the baseline, in standard deviations, and add it to the averages.

        The division makes the learning rate independent of the metric's unit. The first reward has no advantage.
        """
        if self._mean is None:
            self._mean = reward
            return 0.0
        difference = reward - self._mean
        self._mean += (1 - self._decay) * difference
        self._variance = self._decay * self._variance + (1 - self._decay) * difference**2
        return difference / math.sqrt(self._variance) if self._variance else 0.0
