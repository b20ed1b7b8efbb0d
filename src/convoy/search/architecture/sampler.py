"""Optuna sampler that passes the decisions of a study's finished trials to a strategy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from convoy.search.architecture.decisions import Decision, Strategy, Trained, Values

MOST_DRAWS = 1_000
"""Decisions that are refused for one trial until it is recorded as refused."""

REFUSED_BEFORE = "refused_before"
"""User attribute of a trial: number of candidates that were refused before its own, without a trial."""


class StrategySampler(BaseSampler):
    """Sampler of an architecture's decisions. Other parameters are drawn at random.

    The draws of a trial follow from the seed, its number and the trials that have ended, so that a resumed study
    continues as if it had not been stopped.

    Args:
        strategy: rule that chooses decisions.
        decisions: of the space, which are parameters of the trials.
        seed: of the study.
        refuses: returns whether decisions violate a constraint. Such decisions are drawn again, without a trial.
    """

    def __init__(
        self,
        strategy: Strategy,
        decisions: Sequence[Decision],
        seed: int,
        refuses: Callable[[Values], bool] | None = None,
    ) -> None:
        self._strategy, self._decisions, self._seed, self._refuses = strategy, decisions, seed, refuses

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the decisions."""
        return {one.name: CategoricalDistribution(one.choices) for one in self._decisions}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the decisions of a trial, and record in it how many were refused before."""
        trained, rng = self._trained(study), self._rng(trial)
        values, refused = self._strategy.ask(trained, rng), 0
        while self._refuses is not None and refused < MOST_DRAWS and self._refuses(values):
            refused += 1
            values = self._strategy.ask(trained, rng)
        if refused:
            study._storage.set_trial_user_attr(trial._trial_id, REFUSED_BEFORE, refused)
        return {one.name: one.choices[value] for one, value in zip(self._decisions, values, strict=True)}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value of another parameter."""
        seed = self._rng(trial, param_name).randrange(2**32)
        return RandomSampler(seed).sample_independent(study, trial, param_name, param_distribution)

    def _rng(self, trial: FrozenTrial, purpose: str = "") -> Random:
        return Random(f"{self._seed} {trial.number} {purpose}")

    def _trained(self, study: Study) -> list[Trained]:
        """Return the trials with a value, which of a pruned one is the last it has reported."""
        if len(study.directions) > 1:
            return []  # only random draws have several objectives
        sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        return [
            Trained(
                tuple(one.choices.index(trial.params[one.name]) for one in self._decisions),
                sign * trial.value,
            )
            for trial in sorted(ended, key=lambda trial: trial.number)
            if trial.value is not None
        ]
