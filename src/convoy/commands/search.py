"""convoy search: a study of the values of config keys."""

from __future__ import annotations

import json
import secrets
import shlex
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml

from convoy.commands.verb import AtLeast, Call, Verb
from convoy.config.faults import Fault, UserError
from convoy.runs.layout import read_json
from convoy.runs.records import Monitor, metric_text
from convoy.runs.whole_files import replace_text

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from convoy.config.options import Options
    from convoy.search.run_study import Study, Workplace
    from convoy.search.study_config import StudyConfig

_STUDY, _COMMAND = "study.yaml", "command.json"


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
                yield Fault(key, "can't be combined with resume", f"omit it: the study keeps its {key}")
        if not (self.resume / _STUDY).is_file():
            yield Fault("resume", f"has no {_STUDY}", "name the folder of a study", str(self.resume))


ARGUMENTS = Search


def run(given: Search, call: Call) -> int:
    """Run or resume a study, and print its best trials."""
    if any(find_spec(name) is None for name in ("optuna", "cmaes")):
        raise UserError(Fault("search", "needs the package optuna", "pip install 'convoy[search]'"))
    from convoy.search.run_study import Study, Workplace
    from convoy.search.study_config import read_study, study_of

    if given.resume is not None:
        if call.overrides:
            raise UserError(Fault("resume", "continues with the study's own overrides", "omit the others"))
        folder = given.resume.absolute()
        command = read_json(folder / _COMMAND)
        words, study = command["overrides"], replace(read_study(folder / _STUDY), trials=command["trials"])
        if given.trials is not None:
            study = replace(study, trials=given.trials)
        monitor = _checked(study, words, call.options)
    else:
        name, keys, words = _asked(given, call)
        study = study_of(name, keys)
        monitor = _checked(study, words, call.options)
        folder = Path(given.output_root).absolute() / "searches" / f"{name}-{datetime.now():%Y-%m-%d_%H-%M-%S}"
        folder = folder.with_name(f"{folder.name}-{secrets.token_hex(3)}")
        folder.mkdir(parents=True)
        replace_text(folder / _STUDY, yaml.safe_dump(keys, sort_keys=False, default_flow_style=None, width=120))
    command = {"overrides": list(words), "trials": study.trials}
    replace_text(folder / _COMMAND, json.dumps(command) + "\n")
    place = Workplace(folder, study, monitor, words, call.options, given.workers)
    workers = Study(place, lambda trial: _say(trial, workers, study, monitor))
    workers.run()
    return _conclude(workers, place)


def _asked(given: Search, call: Call) -> tuple[str, dict[str, Any], list[str]]:
    """Return name and keys of the study that the command line asks for, and the overrides of its trials."""
    from convoy.search.space_words import split_space
    from convoy.search.study_config import find_study, read_keys

    space, words = split_space(call.overrides, call.options)
    name, keys = "search", dict[str, Any]()
    if given.study is not None:
        path = find_study(given.study, call.options)
        name, keys = path.stem, read_keys(path)
    elif not space:
        rule, example = "must be set, or the overrides must have a space", "optimizer.lr=interval(0.001,0.1)"
        raise UserError(Fault("study", rule, f"write study=<file or name>, resume=<folder of a study>, or '{example}'"))
    if space:
        keys["space"] = {**(keys.get("space") or {}), **space}
    for key in ("trials", "sampler", "pruner"):
        if (value := getattr(given, key)) is not None:
            keys[key] = value
    return name, keys, words


def _checked(study: StudyConfig, words: Sequence[str], options: Options) -> Monitor:
    """Check the configs of the ends of all parameters, and return the monitored metric.

    Raises:
        UserError: with the faults of all of them.
    """
    from convoy.search.study_config import overrides_of
    from convoy.training import preflight

    base = [(one.key, one.extremes()[0]) for one in study.space if not one.when]
    faults: dict[Fault, None] = {}
    monitor = Monitor("val/loss", "min")
    checked = [base] if study.architecture is not None else []
    for parameter in study.space:
        others = [(key, other) for key, other in base if key != parameter.key]
        others += [(key, values[0]) for key, values in parameter.when.items()]
        checked += [[*others, (parameter.key, value)] for value in parameter.extremes()]
    for chosen in checked:
        try:
            config = preflight.read(overrides_of(study, chosen, words), options)
        except UserError as error:
            faults.update(dict.fromkeys(error.faults))
            continue
        percent = frozenset(config.task.get("percent") or ())
        monitor = Monitor(str(config.task["monitor"]), str(config.task["mode"]), percent)
    if faults:
        raise UserError(*faults)
    return monitor


def _say(trial: FrozenTrial, workers: Study, study: StudyConfig, monitor: Monitor) -> None:
    """Print a line about a trial that has ended."""
    from convoy.search.run_study import reason_of, state_of
    from convoy.search.trial_table import best_trials, parameters_text

    state = state_of(trial)
    if state == "done":
        state = metric_text(monitor.name, trial.values[0], monitor.percent)
    elif reason := reason_of(trial):
        state = f"{state} ({reason})"
    best = best_trials(workers.optuna)
    known = f"; best {metric_text(monitor.name, best[0].values[0], monitor.percent)}" if best else ""
    print(f"trial {trial.number}: {state}{known}  {parameters_text(trial, study)}", flush=True)


def _conclude(workers: Study, place: Workplace) -> int:
    """Write search.csv and the page, and print the trials and the command of the best one."""
    from rich.console import Console

    from convoy.report.pages.sweep_page import write_sweep_report
    from convoy.runs.layout import shown
    from convoy.search.architecture.best_model import write_best_model
    from convoy.search.run_study import overrides_of_trial, started, state_of
    from convoy.search.trial_table import best_trials, table, write_csv

    folder, study, monitor = place.folder, place.study, place.monitor
    trials = started(workers.optuna)
    states = [state_of(trial) for trial in trials]
    write_csv(folder / "search.csv", workers.optuna, study, monitor)
    print()
    Console(highlight=False, soft_wrap=True).print(table(workers.optuna, study, monitor))
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    print(f"\n{len(trials)} trials: {counts}")
    for trial in best_trials(workers.optuna):
        print(f"trial {trial.number}: {shlex.join(['convoy', 'train', *overrides_of_trial(trial)])}")
    files = [folder / "search.csv"]
    if study.architecture is not None and (best := best_trials(workers.optuna)):
        path, words = write_best_model(folder, best[0], study, place.words)
        print(f"best network: {shlex.join(['convoy', 'train', *words])}")
        files.append(path)
    if any((folder / "trials").glob("*/config.yaml")):
        files.append(write_sweep_report(folder / "trials", folder / "report.html"))
    print("\n".join(shown(path) for path in files))
    if received := workers.children.received:
        print(f"stopped by {signal.Signals(received).name}; to resume: convoy search resume={shown(folder)}")
        return 128 + received
    ended = sum(state in ("done", "pruned", "failed") for state in states)
    if ended < study.num_trials and "running" not in states:
        print(f"stopped after {ended} of {study.num_trials} trials: too many candidates in a row break the constraints")
        return 1
    return 0 if {"done", "running"} & set(states) else 1  # running: another process trains the rest
