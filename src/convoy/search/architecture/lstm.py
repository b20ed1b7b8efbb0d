"""LSTM that emits a network decision by decision, trained by REINFORCE: Zoph & Le 2016 (arXiv:1611.01578)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor, nn

from convoy.search.architecture.decisions import ArchitectureSpace, Values
from convoy.search.architecture.policy import Policy

_INITIAL = 0.08
"""Bound of the uniform distribution of the initial weights: Zoph & Le 2016, section 4.1."""


class Controller(nn.Module):
    """LSTM whose input is the decision before and whose output are the logits of the next.

    A decision that is not used is skipped: it is 0, and its choice has no probability. This follows from the decisions
    before it.

    Args:
        space: of the networks.
        hidden: units of the LSTM.
        seed: of the weights.
    """

    def __init__(self, space: ArchitectureSpace, hidden: int, seed: int = 0) -> None:
        super().__init__()
        self.space = space
        sizes = [len(one.choices) for one in space.decisions]
        self.start = nn.Parameter(torch.empty(1, hidden))
        self.cell = nn.LSTMCell(hidden, hidden)
        self.inputs = nn.ModuleList(nn.Embedding(size, hidden) for size in sizes[:-1])
        self.outputs = nn.ModuleList(nn.Linear(hidden, size) for size in sizes)
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.double().parameters():
            nn.init.uniform_(parameter, -_INITIAL, _INITIAL, generator)

    def draw(self, rng: Random) -> Values:
        """Draw a network."""
        with torch.no_grad():
            values, _ = self._emitted(None, rng)
        return values

    def log_probability(self, values: Values) -> Tensor:
        """Return the logarithm of the probability of a network, with its gradient."""
        return self._emitted(values, Random())[1]

    def _emitted(self, given: Values | None, rng: Random) -> tuple[Values, Tensor]:
        """Return the given decisions, or drawn ones, and the logarithm of their probability."""
        sizes = [len(one.choices) for one in self.space.decisions]
        values = [0] * len(sizes)
        total = torch.zeros((), dtype=torch.float64)
        signal, state = self.start, None
        for index in range(len(sizes)):
            if index not in self.space.used(values):
                continue
            state = self.cell(signal, state)
            scores = torch.log_softmax(self.outputs[index](state[0])[0], 0)
            choice = rng.choices(range(sizes[index]), scores.exp().tolist())[0] if given is None else given[index]
            values[index] = choice
            total = total + scores[choice]
            if index + 1 < len(sizes):
                signal = self.inputs[index](torch.tensor([choice]))
        return tuple(values), total


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread: threads that wait for each other between tiny operations cost more than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass
class LstmPolicy(Policy):
    """Controller that is trained by one step of Adam per trained network.

    Attributes:
        learning_rate: of Adam.
        hidden: units of the LSTM.
    """

    learning_rate: float = 0.01
    decay: float = 0.9
    hidden: int = 32

    def reset(self) -> None:
        """Return to the initial weights."""
        self.controller = Controller(self.space, self.hidden)
        self._optimizer = torch.optim.Adam(self.controller.parameters(), self.learning_rate)

    def learn(self, values: Values, advantage: float) -> None:
        """Take a step of Adam."""
        with _one_thread():
            self._optimizer.zero_grad(set_to_none=False)
            torch.autograd.backward(-advantage * self.controller.log_probability(values))
            self._optimizer.step()

    def draw(self, rng: Random) -> Values:
        """Draw a network from the controller."""
        with _one_thread():
            return self.controller.draw(rng)
