"""Folder of a study: created from a command line, and opened again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.run_overrides import check_typed_again
from convoy.runs.layout import new_name, read_json
from convoy.runs.records import Monitor
from convoy.runs.whole_files import replace_shared, replace_text
from convoy.search.study_config import (
    FILE_KEYS,
    StudyConfig,
    find_study,
    override,
    overrides_of,
    read_keys,
    read_study,
    study_of,
)

if TYPE_CHECKING:
    from convoy.search.run_study import Workplace

STUDY = "study.yaml"
_COMMAND = "command.json"


@dataclass(frozen=True)
class Asked:
    """Keys of a study on the command line; None for the value in the study's file.

    Attributes:
        study: option of conf/search, or a YAML file.
        trials: number of trials.
        sampler: of the values.
        pruner: of the trials.
    """

    study: str | None = None
    trials: int | None = None
    sampler: str | None = None
    pruner: str | None = None


def require_optuna() -> None:
    """Raise if Optuna is not installed.

    Raises:
        UserError: with the command that installs it.
    """
    if any(find_spec(name) is None for name in ("optuna", "cmaes")):
        raise UserError(Fault("search", "needs the package optuna", "pip install 'convoy[search]'"))


def new_study(
    asked: Asked, overrides: Sequence[str], output_root: Path, options: Options
) -> tuple[Workplace, dict[str, Any]]:
    """Return a new study, which is checked, and the keys of its file.

    Args:
        asked: keys of the study.
        overrides: of the command line; those with several values are added to the space.
        output_root: folder of all runs.
        options: folders of the options.

    Raises:
        UserError: the study has faults.
    """
    from convoy.search.run_study import Workplace

    name, keys, words = _keys(asked, overrides, options)
    study = study_of(name, keys)
    monitor = _checked(study, words, options)
    folder = output_root.absolute() / "searches" / f"{name}-{new_name()}"
    return Workplace(folder, study, monitor, words, options), keys


def create_study_folder(place: Workplace, keys: dict[str, Any]) -> None:
    """Create the folder of a new study."""
    place.folder.mkdir(parents=True)
    replace_text(place.folder / STUDY, yaml.safe_dump(keys, sort_keys=False, default_flow_style=None, width=120))
    _write_command(place.folder, place.words, place.study)


def open_study_folder(folder: Path, trials: int | None, options: Options, typed: Sequence[str] = ()) -> Workplace:
    """Open the folder of a study, which is data: targets in it must be typed again.

    Args:
        folder: of the study.
        trials: new number of trials; None for that of the study.
        options: folders of the options.
        typed: overrides of the command line.

    Raises:
        UserError: the study has faults.
    """
    from convoy.search.run_study import Workplace

    folder = folder.absolute()
    command = read_json(folder / _COMMAND)
    words = command["overrides"]
    study = replace(read_study(folder / STUDY), trials=trials or command["trials"])
    check_typed_again(all_overrides(study, words), typed, "study", STUDY)
    monitor = _checked(study, words, options)
    _write_command(folder, words, study)
    return Workplace(folder, study, monitor, words, options)


def _write_command(folder: Path, words: Sequence[str], study: StudyConfig) -> None:
    content = json.dumps({"overrides": list(words), "trials": study.trials}) + "\n"
    replace_shared(folder / _COMMAND, content.encode())


def _keys(asked: Asked, overrides: Sequence[str], options: Options) -> tuple[str, dict[str, Any], list[str]]:
    """Return name and keys of a new study, and the overrides of its trials."""
    from convoy.search.space_words import split_space

    if faults := _faults_of_file_keys(asked.study, overrides):
        raise UserError(*faults)
    space, words = split_space(overrides, options)
    name, keys = "search", dict[str, Any]()
    if asked.study is not None:
        path = find_study(asked.study, options)
        name, keys = path.stem, read_keys(path)
    elif not space:
        rule, example = "must be set, or the overrides must have a space", "optimizer.lr=interval(0.001,0.1)"
        raise UserError(Fault("study", rule, f"write study=<file or name>, resume=<folder of a study>, or '{example}'"))
    if space:
        keys["space"] = {**(keys.get("space") or {}), **space}
    for key in ("trials", "sampler", "pruner"):
        if (value := getattr(asked, key)) is not None:
            keys[key] = value
    return name, keys, words


def _faults_of_file_keys(study: str | None, overrides: Sequence[str]) -> list[Fault]:
    """Return the faults of overrides that belong to a study's file."""
    place = "a file for study=<file>, such as conf/search/digits_lr.yaml" if study is None else "the study's file"
    typed = {text.partition("=")[0].lstrip("+").partition(".")[0] for text in overrides}
    return [Fault(key, "is not an override", f"write it in {place}") for key in FILE_KEYS if key in typed]


def all_overrides(study: StudyConfig, words: Sequence[str]) -> list[str]:
    """Return the overrides of the study and of the command line, and those of the space's values."""
    chosen = [override(one.key, value) for one in study.space for value in one.extremes()]
    return list(dict.fromkeys([*study.train, *words, *chosen]))


def first_overrides(place: Workplace) -> list[str]:
    """Return the overrides of a trial with the first value of each parameter."""
    chosen = [(one.key, one.extremes()[0]) for one in place.study.space if not one.when]
    return overrides_of(place.study, chosen, place.words)


def _checked(study: StudyConfig, words: Sequence[str], options: Options) -> Monitor:
    """Check the configs of the ends of all parameters, and return the monitored metric.

    Raises:
        UserError: with the faults of all of them.
    """
    from convoy.training import preflight

    base = [(one.key, one.extremes()[0]) for one in study.space if not one.when]
    faults: dict[Fault, None] = {}
    for text in (*study.train, *words):
        key, _, value = text.partition("=")
        if key in ("folder", "resume"):
            faults[Fault(key, "applies to a single run, not to a study", f"omit {key}", value)] = None
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
        needs_card = "peak_memory" in study.objectives and "peak_memory" not in study.constraints
        if needs_card and config.hardware.usable_bytes is None:
            remedy = "write hardware=<card>, or constraints: {peak_memory: <card>}"
            faults[Fault("objectives", "peak_memory needs a card", remedy, "peak_memory")] = None
        percent = frozenset(config.task.get("percent") or ())
        monitor = Monitor(str(config.task["monitor"]), str(config.task["mode"]), percent)
    if faults:
        raise UserError(*faults)
    return monitor
