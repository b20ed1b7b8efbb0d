"""Study in Optuna's journal: one file that several processes and Slurm jobs share, also over NFS."""

from __future__ import annotations

import fcntl
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from threading import Lock
from typing import IO

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection

from convoy.runs.records import Monitor
from convoy.search.architecture.decisions import Values
from convoy.search.architecture.reading import SHARING
from convoy.search.architecture.sampler import StrategySampler
from convoy.search.study_config import StudyConfig

JOURNAL = "journal.log"
_NAME = "study"


class _JournalLock:
    """Lock of the journal that ends with its process; Optuna's locks are files, which a killed process leaves behind.

    Args:
        path: file of the lock.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = Lock()
        self._file: IO[str] | None = None

    def acquire(self) -> bool:
        self._threads.acquire()
        self._file = self._path.open("a")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        assert self._file is not None
        self._file.close()
        self._threads.release()


def open_study(folder: Path, study: StudyConfig, monitor: Monitor) -> optuna.Study:
    """Create or open the study of a folder.

    Args:
        folder: of the study.
        study: its config.
        monitor: metric that is optimized.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    smallest, largest = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE
    directions = [largest if monitor.mode == "max" else smallest, *(smallest for _ in study.objectives)]
    opened = optuna.create_study(
        storage=storage_of(folder),
        study_name=_NAME,
        pruner=_pruner(study),
        directions=directions,
        load_if_exists=True,
    )
    # Optuna's GridSampler stops a study, which only `optimize` allows.
    if study.sampler == "grid" and not opened.get_trials(deepcopy=False):
        for values in product(*(one.grid() for one in study.parameters)):
            opened.enqueue_trial(dict(zip((one.key for one in study.parameters), values, strict=True)))
    return opened


def storage_of(folder: Path) -> JournalStorage:
    """Return the storage in a study's folder."""
    path = folder / JOURNAL
    return JournalStorage(JournalFileBackend(str(path), lock_obj=_JournalLock(path.with_suffix(".lock"))))  # type: ignore[arg-type]


def stored_study(folder: Path) -> optuna.Study:
    """Return the study in a folder, to read it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.load_study(study_name=_NAME, storage=storage_of(folder))


def load_trial(folder: Path, number: int, study: StudyConfig) -> optuna.Trial:
    """Return a trial that is running, to report its values."""
    opened = optuna.load_study(study_name=_NAME, storage=storage_of(folder), pruner=_pruner(study))
    found = next(trial for trial in opened.get_trials(deepcopy=False) if trial.number == number)
    return optuna.Trial(opened, found._trial_id)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, which the kernel releases when the process ends."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sampler_of(study: StudyConfig, number: int, refuses: Callable[[Values], bool] | None = None) -> BaseSampler:
    """Return the sampler of a trial, whose draws depend on the seed and the trial's number.

    A sampler with the seed alone would draw the same in each process and after each resume. CMA-ES and the quasi-random
    sequence continue from the journal instead.

    Args:
        study: of the trial.
        number: of the trial.
        refuses: constraint on the decisions of an architecture; None for none.
    """
    if study.architecture is not None and study.strategy is not None:
        return StrategySampler(study.strategy, study.architecture.decisions, study.seed, refuses)
    seed = study.seed if study.sampler in ("quasi_random", "cma_es") else study.seed * 1_000_003 + number
    if study.sampler in ("random", "grid", SHARING):  # the points of a grid and the networks of ENAS are enqueued
        return optuna.samplers.RandomSampler(seed)
    if study.sampler == "quasi_random":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.QMCSampler(
                seed=seed, warn_asynchronous_seeding=False, warn_independent_sampling=False
            )
    if study.sampler == "cma_es":
        return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
    return optuna.samplers.TPESampler(seed=seed)


def _pruner(study: StudyConfig) -> optuna.pruners.BasePruner:
    if study.pruner == "median":
        return optuna.pruners.MedianPruner()
    if study.pruner == "successive_halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1)
    return optuna.pruners.HyperbandPruner() if study.pruner == "hyperband" else optuna.pruners.NopPruner()
