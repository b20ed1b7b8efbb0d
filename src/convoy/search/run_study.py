"""Workers of a study: ask for candidates, refuse those that break a constraint, and train the rest.

Each trial is a separate process with its run in `trials/<number>`. A worker and the process of its trial hold a lock on
the trial. When both have ended, also by a kill, the kernel releases the lock, and the next worker takes the trial over
and resumes its run. So each trial ends exactly once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from convoy.config.faults import UserError
from convoy.config.options import Options
from convoy.runs.layout import RunFolder
from convoy.runs.records import Monitor, is_finished, read_summary
from convoy.runtime.child_runs import MOST_DEATHS, ChildRuns, last_line, try_lock, words_of
from convoy.search.architecture.candidate import TEXT, ChainFilter, config_keys, values_of
from convoy.search.architecture.reading import SHARING
from convoy.search.architecture.sampler import MOST_DRAWS, REFUSED_BEFORE
from convoy.search.candidates import costs_of, further_costs, refusal
from convoy.search.journal import locked, open_study, sampler_of
from convoy.search.pruning import PRUNED, TRIAL
from convoy.search.shared_weights import SharedWeights
from convoy.search.space import chosen_values
from convoy.search.study_config import QUEUED, TRIAL_OVERRIDES, StudyConfig, overrides_of
from convoy.training import preflight

MOST_REFUSED = 100
"""Candidates that are refused in a row until the study stops: its constraints leave almost nothing."""

_LOOK_EVERY_S = 0.5
_REFUSED, _ERROR, _OVERRIDES, _DEATHS = "refused", "error", "overrides", "deaths"


@dataclass(frozen=True)
class Workplace:
    """Folder and settings that the workers of a study share.

    Attributes:
        folder: of the study.
        study: its config.
        monitor: metric that is optimized.
        words: overrides of the command line.
        options: folders of the options.
        workers: number of trials at a time.
        waits: whether workers without work wait for the trials of others, which may be left behind.
    """

    folder: Path
    study: StudyConfig
    monitor: Monitor
    words: Sequence[str]
    options: Options
    workers: int = 1
    waits: bool = True

    def run_of(self, number: int) -> RunFolder:
        """Return the run folder of a trial."""
        return RunFolder(self.folder / "trials" / f"{number:04d}")


class Study:
    """Workers of a study in this process.

    Args:
        place: folder and settings.
        ended: called with each trial that has ended.
    """

    def __init__(self, place: Workplace, ended: Callable[[FrozenTrial], None]) -> None:
        self._place, self._ended = place, ended
        self.children = ChildRuns(place.options, place.workers, ("convoy.search.pruning", "convoy.search.journal"))
        (place.folder / "trials").mkdir(exist_ok=True)
        with locked(place.folder / ".lock"):
            self.optuna = open_study(place.folder, place.study, place.monitor)
        self._known: dict[tuple[str, ...], tuple[dict[str, float], str | None]] = {}

    def run(self) -> None:
        """Train trials until the study has its number."""
        self.children.work(self._work)

    def _work(self, worker: int) -> None:
        if self._place.study.sampler == SHARING:
            self._enqueue_ranked(worker)
        while not self.children.is_stopped:
            with self._next() as (trial, lock):
                if trial is not None and lock is not None:
                    self._finish(trial, lock, worker)
                    continue
            if not self._place.waits or not self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                return
            self.children.wait(_LOOK_EVERY_S)  # a trial of another worker may be left behind

    def _enqueue_ranked(self, worker: int) -> None:
        """Enqueue the networks that are the best with shared weights as the first trials."""
        place = self._place
        assert place.study.architecture is not None
        shared = SharedWeights(place.folder, place.study, place.words, place.options)
        networks = shared.ranked(self.children, worker)
        with locked(place.folder / ".lock"):
            for values in networks[len(self.optuna.get_trials(deepcopy=False)) :]:
                decided = zip(place.study.architecture.decisions, values, strict=True)
                self.optuna.enqueue_trial({one.name: one.choices[value] for one, value in decided})

    @contextmanager
    def _next(self) -> Iterator[tuple[FrozenTrial | None, IO[str] | None]]:
        """Yield a trial with its lock: one that was left behind, or a new one; None if there is nothing to do."""
        with locked(self._place.folder / ".lock"):
            trial, lock = self._orphan() or self._new() or (None, None)
        try:
            yield trial, lock
        finally:
            if lock is not None:
                lock.close()

    def _orphan(self) -> tuple[FrozenTrial, IO[str]] | None:
        """Return a running trial whose worker has died, and its lock."""
        for trial in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if _OVERRIDES in trial.user_attrs and (lock := self._lock(trial.number)) is not None:
                return trial, lock
        return None

    def _new(self) -> tuple[FrozenTrial, IO[str]] | None:
        """Return a new trial that satisfies the constraints, and its lock; None if the study has its number."""
        place = self._place
        for _ in range(MOST_REFUSED):
            trials = self.optuna.get_trials(deepcopy=False)
            if counted(self.optuna) >= place.study.num_trials or self.children.is_stopped:
                return None
            left = self._asked(trials)
            if (
                left is None
                and place.study.sampler in QUEUED
                and all(one.state != TrialState.WAITING for one in trials)
            ):
                return None
            refuses = None if self._filter is None else self._filter.refuses
            self.optuna.sampler = sampler_of(place.study, len(trials), refuses)
            asked = left or self.optuna.ask()
            chosen = dict(chosen_values(list(place.study.parameters), asked))
            overrides = overrides_of(place.study, config_keys(place.study.architecture, chosen), place.words)
            reason = self._refused(asked, overrides, chosen)
            if reason is None:
                asked.set_user_attr(_OVERRIDES, overrides)
                lock = self._lock(asked.number)
                assert lock is not None  # a new number
                return self.optuna.trials[asked.number], lock
            asked.set_user_attr(_REFUSED, reason)
            self.optuna.tell(asked, state=TrialState.FAIL)
            refused = self.optuna.trials[asked.number]
            self._ended(refused)
            if refused.user_attrs.get(REFUSED_BEFORE, 0) >= MOST_DRAWS:
                break
        self.children.stop()
        return None

    def _asked(self, trials: Sequence[FrozenTrial]) -> optuna.Trial | None:
        """Return a trial that a killed worker had asked for without starting it; trials are asked for under a lock."""
        left = (one for one in trials if one.state == TrialState.RUNNING and _OVERRIDES not in one.user_attrs)
        found = next(left, None)
        return None if found is None else optuna.Trial(self.optuna, found._trial_id)

    def _refused(self, asked: optuna.Trial, overrides: Sequence[str], chosen: Mapping[str, Any]) -> str | None:
        study = self._place.study
        if study.architecture is not None:
            asked.set_user_attr(TEXT, study.architecture.text(values_of(study.architecture, chosen)))
        elif not study.constraints and not study.objectives:
            return None
        key = tuple(overrides)
        if key not in self._known:
            self._known[key] = self._judged(overrides, chosen)
        costs, reason = self._known[key]
        for name, value in costs.items():
            asked.set_user_attr(name, value)
        return reason

    def _judged(self, overrides: Sequence[str], chosen: Mapping[str, Any]) -> tuple[dict[str, float], str | None]:
        """Return the costs of a candidate and the reason for which it is refused."""
        costs: dict[str, float] = {}
        study, options = self._place.study, self._place.options
        needed = {*study.objectives, *(name for name in study.constraints if name != "peak_memory")}
        try:
            if self._filter is None:
                costs.update(costs_of(overrides, options))
            else:
                costs.update(self._filter.costs(values_of(self._filter.space, chosen)))
            costs.update(further_costs(needed, study.constraints.get("peak_memory"), overrides, options))
            return costs, refusal(study.constraints, overrides, costs, options)
        except UserError as error:
            return costs, "; ".join(str(fault) for fault in error.faults)

    @cached_property
    def _filter(self) -> ChainFilter | None:
        """Constraints that are checked before a candidate becomes a trial."""
        if self._place.study.architecture is None:
            return None
        words = overrides_of(self._place.study, [], self._place.words)
        return ChainFilter.of(self._place.study, preflight.read(words, self._place.options, to_run=False))

    def _lock(self, number: int) -> IO[str] | None:
        """Return the locked file of a trial; None if another worker holds it."""
        return try_lock(self._place.folder / "trials" / f".{number:04d}.lock")

    def _finish(self, trial: FrozenTrial, lock: IO[str], worker: int) -> None:
        """Train a trial to its end and report the result, unless the study was stopped."""
        code = self._train(trial, lock, worker)
        if code and (self.children.is_stopped or (code > 128 and self._may_retry(trial))):
            return  # the trial stays running; the next worker, or the next start of the study, resumes it
        place = self._place
        run = place.run_of(trial.number)
        value = read_summary(run.summary).get(place.monitor.name)
        if (run.path / PRUNED).exists():
            self.optuna.tell(trial.number, state=TrialState.PRUNED, skip_if_finished=True)
        elif code == 0 and isinstance(value, int | float):
            costs = [trial.user_attrs[name] for name in place.study.objectives]
            self.optuna.tell(trial.number, [value, *costs], skip_if_finished=True)
        else:
            self.optuna._storage.set_trial_user_attr(
                trial._trial_id, _ERROR, last_line(run.path.with_suffix(".log"), code)
            )
            self.optuna.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        self._ended(self.optuna.trials[trial.number])

    def _may_retry(self, trial: FrozenTrial) -> bool:
        """Count a trial whose process was killed, and return whether it is resumed."""
        deaths = trial.user_attrs.get(_DEATHS, 0) + 1
        self.optuna._storage.set_trial_user_attr(trial._trial_id, _DEATHS, deaths)
        return bool(deaths < MOST_DEATHS)

    def _train(self, trial: FrozenTrial, lock: IO[str], worker: int) -> int:
        run = self._place.run_of(trial.number)
        if is_finished(run.summary):
            return 0  # its worker was killed before it could report the result
        overrides = [*self.children.threads(), *trial.user_attrs[_OVERRIDES], *TRIAL_OVERRIDES]
        named = {TRIAL: f"{self._place.folder}:{trial.number}"}
        return self.children.train(words_of(run, overrides), worker, lock, named, run.path.with_suffix(".log"))


def counted(study: optuna.Study) -> int:
    """Return the number of trials that are trained or have ended, without refused candidates."""
    trials = study.get_trials(deepcopy=False)
    return sum(_REFUSED not in one.user_attrs and _OVERRIDES in one.user_attrs for one in trials)


def started(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials without those of a grid that are still waiting."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]


def state_of(trial: FrozenTrial) -> str:
    """Return the state of a trial, for people."""
    if _REFUSED in trial.user_attrs:
        return "refused"
    return {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}.get(
        trial.state, "running"
    )


def reason_of(trial: FrozenTrial) -> str:
    """Return why a trial was refused or failed; empty otherwise."""
    attrs: dict[str, Any] = trial.user_attrs
    return str(attrs.get(_REFUSED) or attrs.get(_ERROR) or "")


def overrides_of_trial(trial: FrozenTrial) -> list[str]:
    """Return the overrides of a trial."""
    return list(trial.user_attrs.get(_OVERRIDES, ()))
