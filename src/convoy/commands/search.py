"""convoy search: a study of the values of config keys."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from convoy.commands.declaration.verb import AtLeast, Call, Verb
from convoy.config.faults import Fault
from convoy.runs.records import metric_text
from convoy.search.study_folder import STUDY, Asked, create_study_folder, new_study, open_study_folder, require_optuna

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from rich.console import Console

    from convoy.search.run_study import Study, Workplace


@dataclass(frozen=True)
class Search(Verb):
    """Search for the values of config keys that give the best network.

    The space of the search is written in the overrides, or in a study: a YAML
    file with the overrides of all trials, the space, and how it is sampled
    (docs/search.md, conf/search/). Each trial is a run without a test.
    resume=<folder> continues a study that was stopped or killed, also in
    several processes.

      convoy search model=lenet5 'optimizer.lr=tag(log,interval(0.001,1))' trials=20
      convoy search study=digits_lr trainer.max_epochs=3 workers=2
      convoy search resume=outputs/searches/<study>
    """

    study: str | None = None
    """Option of conf/search, or a YAML file."""
    resume: Path | None = None
    """Folder of a study to resume."""
    workers: Annotated[int, AtLeast(1)] = 1
    """Number of trials at a time, which share the cores and the GPUs."""
    trials: Annotated[int, AtLeast(1)] | None = None
    """Number of trials; null for that of the study, or 20."""
    sampler: str | None = None
    """tpe, random, grid, quasi_random or cma_es; null for that of the study,
    or tpe."""
    pruner: str | None = None
    """none, median, successive_halving or hyperband; null for that of the
    study, or none."""
    output_root: str = "outputs"
    """Folder of all runs; a study is in searches/ there."""

    overrides = None

    def faults(self) -> Iterator[Fault]:
        """Yield the faults of the keys together."""
        if self.resume is None:
            return
        for key in ("study", "sampler", "pruner"):
            if getattr(self, key) is not None:
                yield Fault(key, "can't be combined with resume", "omit it: the folder has the study")
        if not (self.resume / STUDY).is_file():
            yield Fault("resume", f"has no {STUDY}", "name the folder of a study", str(self.resume))


ARGUMENTS = Search


def run(given: Search, call: Call) -> int:
    """Run or resume a study, and print its best trials."""
    require_optuna()
    if given.resume is not None:
        place = open_study_folder(given.resume, given.trials, call.options, call.overrides)
    else:
        asked = Asked(given.study, given.trials, given.sampler, given.pruner)
        place, keys = new_study(asked, call.overrides, Path(given.output_root), call.options)
        create_study_folder(place, keys)
    return work(replace(place, workers=given.workers))


def work(place: Workplace) -> int:
    """Train trials of a study until there are none left, and print its best ones."""
    from rich.console import Console
    from rich.live import Live

    from convoy.search.live_table import live_table
    from convoy.search.run_study import Study

    console = Console(highlight=False)
    workers = Study(place, lambda trial: _say(trial, workers, place, console))
    if console.is_terminal:
        # At the end, the table of results replaces it.
        shown = Live(
            get_renderable=lambda: live_table(workers.optuna, place),
            console=console,
            refresh_per_second=1,
            transient=True,
        )
        with shown:
            workers.run()
    else:
        workers.run()
    return _conclude(workers, place)


def _say(trial: FrozenTrial, workers: Study, place: Workplace, console: Console) -> None:
    """Print a line about a trial that has ended; a terminal shows the table instead, and only failed trials."""
    from convoy.search.run_study import reason_of, state_of
    from convoy.search.trial_table import best_trials, parameters_text

    state, monitor = state_of(trial), place.monitor
    if console.is_terminal and state != "failed":
        return
    if state == "done":
        state = metric_text(monitor.name, trial.values[0], monitor.percent)
    elif reason := reason_of(trial):
        state = f"{state} ({reason})"
    best = best_trials(workers.optuna)
    known = f"; best {metric_text(monitor.name, best[0].values[0], monitor.percent)}" if best else ""
    text = f"trial {trial.number}: {state}{known}  {parameters_text(trial, place.study)}"
    console.print(text, markup=False, soft_wrap=True)
    console.file.flush()


def _conclude(workers: Study, place: Workplace) -> int:
    """Write search.csv and the page, and print the trials and the command of the best one."""
    from rich.console import Console

    from convoy.data.targets import counted
    from convoy.report.pages.study_page import write_study_report
    from convoy.runs.layout import shown
    from convoy.search.architecture.best_model import write_best_model
    from convoy.search.architecture.sampler import REFUSED_BEFORE
    from convoy.search.journal import locked
    from convoy.search.run_study import overrides_of_trial, started, state_of
    from convoy.search.study_config import QUEUED
    from convoy.search.trial_table import best_trials, table, write_csv

    folder, study, monitor = place.folder, place.study, place.monitor
    trials = started(workers.optuna)
    states = [state_of(trial) for trial in trials]
    print()
    Console(highlight=False, soft_wrap=True).print(table(workers.optuna, study, monitor))
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    before = sum(trial.user_attrs.get(REFUSED_BEFORE, 0) for trial in trials)
    counts += f"; {before:,} candidates refused before becoming a trial" if before else ""
    print(f"\n{counted(len(trials), 'trial')}: {counts}")
    for trial in best_trials(workers.optuna):
        print(f"trial {trial.number}: {shlex.join(['convoy', 'train', *overrides_of_trial(trial)])}")
    files = [folder / "search.csv"]
    with locked(folder / ".lock"):  # other processes write the same files
        write_csv(files[0], workers.optuna, study, monitor)
        if study.architecture is not None and (best := best_trials(workers.optuna)):
            path, words = write_best_model(folder, best[0], study, place.words)
            print(f"best network: {shlex.join(['convoy', 'train', *words])}")
            files.append(path)
        if any((folder / "trials").glob("*/config.yaml")):
            files += write_study_report(folder)
    print("\n".join(shown(path) for path in files))
    if received := workers.children.received:
        print(f"stopped by {signal.Signals(received).name}; to resume: convoy search resume={shown(folder)}")
        return 128 + received
    ended = sum(state in ("done", "pruned", "failed") for state in states)
    if ended < study.num_trials and "running" not in states:
        is_queue_empty = study.sampler in QUEUED and ended > 0
        reason = "no candidate is left" if is_queue_empty else "too many candidates in a row break the constraints"
        print(f"stopped after {ended} of {study.num_trials} trials: {reason}")
        return int(not is_queue_empty)
    return 0 if {"done", "running"} & set(states) else 1  # running: another process trains the rest
