"""A study's YAML file: what is trained, searched, limited and measured."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from convoy.config.faults import Fault, UserError, did_you_mean, one_line
from convoy.config.options import Options
from convoy.search.architecture.cell_space import CellSpace
from convoy.search.architecture.decisions import ArchitectureSpace, Strategy
from convoy.search.architecture.reading import SHARING, STRATEGIES, read_architecture, settings_faults, strategy_of
from convoy.search.space import Parameter, read_space

SAMPLERS = ("tpe", "random", "grid", "quasi_random", "cma_es", *STRATEGIES, SHARING)
QUEUED = ("grid", SHARING)
"""Samplers whose candidates are all in the journal before the first trial."""

PRUNERS = ("none", "median", "successive_halving", "hyperband")
_OTHER_NAMES = {
    "asha": "successive_halving",
    "bayes": "tpe",
    "bayesian": "tpe",
    "cmaes": "cma_es",
    "qmc": "quasi_random",
    "sobol": "quasi_random",
}
"""Names that other tools use, and those of samplers and pruners."""

MOST_POINTS = 100_000
"""Largest grid, all of whose points are written to the journal."""

COSTS = ("params", "macs", "peak_memory", "latency_ms")
"""Costs of a network that can be an objective beside the monitored metric, or limited."""

REPORTING = "callback.search._target_=convoy.search.pruning.ReportToStudy"
"""Callback of a trial."""

TRIAL_OVERRIDES = (
    "trainer.test=false",
    "report=false",
    f"+{REPORTING}",
)
"""Overrides of every trial: the test split chooses nothing, so that trials leave it out."""

CANDIDATE = "candidate"
"""Name of the networks of an architecture search."""

FILE_KEYS = ("train", "space", "architecture", "objectives", "constraints")
"""Keys that only a study's file has."""

_KEYS = (*FILE_KEYS, "trials", "sampler", "pruner", "seed")


@dataclass(frozen=True)
class StudyConfig:
    """Study.

    Attributes:
        name: of the study.
        train: overrides of all trials.
        space: parameters.
        trials: number of trials that are trained or fail.
        sampler: one of `SAMPLERS`.
        pruner: one of `PRUNERS`, which ends trials early by the monitored metric.
        objectives: costs that are minimized beside the monitored metric.
        constraints: largest `params` and `macs`, and `peak_memory`, a card that the training must fit.
        seed: of the sampler.
        architecture: space of the networks; None if the trials train the same network.
        sampler_settings: settings of a sampler of architectures.
    """

    name: str
    train: tuple[str, ...]
    space: tuple[Parameter, ...]
    trials: int = 20
    sampler: str = "tpe"
    pruner: str = "none"
    objectives: tuple[str, ...] = ()
    constraints: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 1
    architecture: ArchitectureSpace | None = None
    sampler_settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_trials(self) -> int:
        """Number of trials: of a grid at most one per point."""
        if self.sampler != "grid":
            return self.trials
        return min(self.trials, math.prod(len(one.grid()) for one in self.parameters))

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters of the space and the decisions of the architecture."""
        decisions = self.architecture.decisions if self.architecture is not None else ()
        return (*self.space, *(Parameter(one.name, "choice", one.choices) for one in decisions))

    @cached_property
    def strategy(self) -> Strategy | None:
        """Sampler of the architecture; None if Optuna samples. It keeps what it has learned between trials."""
        if self.architecture is None:
            return None
        return strategy_of(self.sampler, self.architecture, self.sampler_settings)


def find_study(text: str, options: Options) -> Path:
    """Return the file of a study: a path, or the name of an option in conf/search.

    Raises:
        UserError: there is no such study.
    """
    path = Path(text)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise UserError(Fault("study", "no such file", "write the path of a study's YAML file", text))
    if path.exists():
        remedy = f"to continue the study in it, write resume={text}" if path.is_dir() else "its name ends in .yaml"
        raise UserError(Fault("study", "is not a study's YAML file", remedy, text))
    for folder in reversed(options.folders):
        if (path := folder / "search" / f"{text}.yaml").is_file():
            return path
    names = options.of("search")
    raise UserError(Fault("study", "no such study", did_you_mean(text, names, f"choose from {', '.join(names)}"), text))


def read_study(path: Path) -> StudyConfig:
    """Return a study from its file.

    Raises:
        UserError: the file can't be read or has faults; all are reported.
    """
    return study_of(path.stem, read_keys(path))


def read_keys(path: Path) -> dict[str, Any]:
    """Return the keys of a study's file, not checked.

    Raises:
        UserError: the file can't be read.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        rule = f"can't be read ({one_line(error)})"
        raise UserError(Fault("study", rule, "repair the file, or name another", str(path))) from error
    if not isinstance(found, dict):
        raise UserError(Fault("study", "is not a study", f"write the keys {', '.join(_KEYS)}", str(path)))
    return found


def study_of(name: str, found: Mapping[str, Any]) -> StudyConfig:
    """Return a study from its keys.

    Raises:
        UserError: there are faults; all are reported.
    """
    space, faults = read_space(_mapping(found.get("space")))
    architecture = None
    if "architecture" in found:
        faults = faults if found.get("space") else []
        try:
            architecture = read_architecture(found["architecture"])
        except UserError as error:
            faults += error.faults
    given = found.get("train") or ()
    if not isinstance(given, list | tuple):
        remedy = f"write train: [{given}]" if isinstance(given, str) else "write train: [model=lenet5, data=digits]"
        faults.append(Fault("train", "is not a list of overrides", remedy))
        given = ()
    train = tuple(str(word) for word in given)
    sampler, settings = _named_with_settings(found.get("sampler", "tpe"))
    faults += settings_faults(sampler, settings)
    faults += [
        Fault(str(key), "no such key of a study", did_you_mean(str(key), _KEYS, f"choose from {', '.join(_KEYS)}"))
        for key in found
        if key not in _KEYS
    ]
    faults += _choice_faults({**found, "sampler": sampler})
    study = StudyConfig(
        name=name,
        train=train if architecture is None else (f"model={architecture.option}", f"model.name={CANDIDATE}", *train),
        space=tuple(space),
        trials=found.get("trials", 20),
        sampler=sampler,
        pruner=found.get("pruner") or "none",
        objectives=tuple(found.get("objectives") or ()),
        constraints=_mapping(found.get("constraints")),
        seed=found.get("seed", 1),
        architecture=architecture,
        sampler_settings=settings,
    )
    faults += _combination_faults(study)
    if faults:
        raise UserError(*faults)
    return study


def override(key: str, value: Any) -> str:
    """Return an override of the command line."""
    if isinstance(value, bool):
        return f"{key}={str(value).lower()}"
    return f"{key}={json.dumps(value) if isinstance(value, list | dict) else value}"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _named_with_settings(sampler: Any) -> tuple[str, Any]:
    """Return the name and the settings of `sampler: name` or `sampler: {name: settings}`."""
    if isinstance(sampler, Mapping) and len(sampler) == 1:
        ((name, settings),) = sampler.items()
        return str(name), settings or {}
    return str(sampler), {}


def _choice_faults(found: Mapping[str, Any]) -> list[Fault]:
    faults = []
    for key, choices in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
        value = found.get(key)
        if value is not None and value not in choices:
            near = did_you_mean(str(value), choices, f"choose from {', '.join(choices)}")
            known = _OTHER_NAMES.get(str(value).lower())
            faults.append(Fault(key, f"no such {key}", f"write {known}" if known in choices else near, str(value)))
    for key in ("trials", "seed"):
        value = found.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            faults.append(Fault(key, "must be an integer of 1 or more", "", str(value)))
    return faults


def _combination_faults(study: StudyConfig) -> list[Fault]:
    faults = []
    for name in study.objectives:
        if name not in COSTS:
            remedy = did_you_mean(str(name), COSTS, f"choose from {', '.join(COSTS)}; the metric is always one")
            faults.append(Fault("objectives", "no such cost", remedy, str(name)))
    for name, value in study.constraints.items():
        if name not in COSTS:
            near = did_you_mean(str(name), COSTS, f"choose from {', '.join(COSTS)}")
            faults.append(Fault(f"constraints.{name}", "no such constraint", near))
        elif name != "peak_memory" and not isinstance(value, int | float):
            remedy = "write the largest number, such as 1.0e+6 (YAML needs the sign)"
            faults.append(Fault(f"constraints.{name}", "is not a number", remedy, str(value)))
    if study.sampler == "grid" and any(parameter.when for parameter in study.space):
        faults.append(Fault("sampler", "a grid has no conditions (when)", "choose sampler: random or tpe", "grid"))
    if study.sampler == "grid" and (points := math.prod(len(one.grid()) for one in study.parameters)) > MOST_POINTS:
        rule = f"has {points:,} points, more than {MOST_POINTS:,}"
        faults.append(Fault("sampler", rule, "choose sampler: random or tpe", "grid"))
    if study.sampler in (*STRATEGIES, SHARING) and study.architecture is None:
        remedy = "add an architecture block, or choose sampler: tpe"
        faults.append(Fault("sampler", "chooses architectures only", remedy, study.sampler))
    cells = study.architecture if isinstance(study.architecture, CellSpace) else None
    if study.sampler == SHARING and study.architecture is not None and cells is None:
        rule, remedy = "shares weights among cells alone", "write architecture: {cells: …}, or choose sampler: lstm"
        faults.append(Fault("sampler", rule, remedy, study.sampler))
    if study.sampler == SHARING and cells is not None and "concat" in cells.combinations:
        rule, remedy = "shares weights among blocks that add", "write sampler: lstm, or combinations: [add]"
        faults.append(Fault("sampler", rule, remedy, study.sampler))
    if study.sampler in STRATEGIES and study.objectives:
        rule = "compares networks by the monitored metric alone"
        faults.append(Fault("sampler", rule, "omit objectives, or choose sampler: tpe", study.sampler))
    if study.pruner != "none" and study.objectives:
        rule = "trials with several objectives can't be compared before their end"
        faults.append(Fault("pruner", rule, "write pruner: none, or omit objectives", study.pruner))
    return faults


def overrides_of(study: StudyConfig, chosen: Sequence[tuple[str, Any]], words: Sequence[str]) -> list[str]:
    """Return the overrides of a trial: those of the study, of the command line, and the chosen values."""
    return [*study.train, *words, *(override(key, value) for key, value in chosen)]
