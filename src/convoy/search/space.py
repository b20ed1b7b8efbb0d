"""Search space of a study: parameters, each a key of the config with its values. Imports neither torch nor Optuna."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convoy.config.faults import Fault, did_you_mean

if TYPE_CHECKING:
    from optuna.trial import Trial

KINDS = {
    "float": "two numbers, such as {float: [0.1, 0.9]}",
    "log_float": "two positive numbers, drawn evenly by their logarithm, such as {log_float: [0.001, 1.0]}",
    "int": "two integers, both included, such as {int: [1, 8]}",
    "choice": "a list of values, such as {choice: [16, 32, 64]}",
}
_WHEN, _STEPS = "when", "steps"


@dataclass(frozen=True)
class Parameter:
    """Key of the config with the values that a study tries.

    Attributes:
        key: of the config, such as `optimizer.lr`.
        kind: one of `KINDS`.
        values: lower and upper end, or the choices.
        when: values of other parameters under which this one is used; the key keeps its value otherwise.
        steps: number of evenly spaced values of a float for `sampler: grid`.
    """

    key: str
    kind: str
    values: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    steps: int = 5

    def is_used(self, chosen: Mapping[str, Any]) -> bool:
        """Return whether the parameter is used beside values that were chosen before."""
        return all(key in chosen and chosen[key] in values for key, values in self.when.items())

    def suggest(self, trial: Trial) -> Any:
        """Return the value of a trial."""
        if self.kind == "choice":
            stored = self.grid()
            return self.values[stored.index(trial.suggest_categorical(self.key, stored))]
        low, high = self.values
        if self.kind == "int":
            return trial.suggest_int(self.key, low, high)
        return trial.suggest_float(self.key, low, high, log=self.kind == "log_float")

    def value_of(self, stored: Any) -> Any:
        """Return the value that Optuna stores as `stored`."""
        return self.values[self.grid().index(stored)] if self.kind == "choice" else stored

    def grid(self) -> list[Any]:
        """Return the values of a grid, as Optuna stores them: of lists and mappings their position."""
        if self.kind == "choice":
            are_plain = all(isinstance(value, str | int | float | bool | None) for value in self.values)
            return list(self.values) if are_plain else list(range(len(self.values)))
        low, high = self.values
        if self.kind == "int":
            return list(range(low, high + 1))
        if self.kind == "log_float":
            ratio = math.log(high / low)
            inner = [low * math.exp(ratio * index / (self.steps - 1)) for index in range(1, self.steps - 1)]
        else:
            inner = [low + (high - low) * index / (self.steps - 1) for index in range(1, self.steps - 1)]
        return [low, *inner, high]

    def extremes(self) -> list[Any]:
        """Return the values whose configs are checked before the first trial: the ends, or all choices."""
        return list(self.values)


def read_space(space: Mapping[str, Any]) -> tuple[list[Parameter], list[Fault]]:
    """Return the parameters of a study's `space`, and its faults."""
    found: list[Parameter] = []
    faults: list[Fault] = []
    for key, node in space.items():
        try:
            found.append(_parameter(str(key), node, {one.key: one for one in found}))
        except _BadParameterError as error:
            faults.append(error.fault)
    if not space:
        faults.append(Fault("space", "has no parameter", "write a key of the config, such as " + _EXAMPLE))
    return found, faults


_EXAMPLE = "optimizer.lr: {log_float: [0.001, 1.0]}"


class _BadParameterError(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


def _parameter(key: str, node: Any, before: Mapping[str, Parameter]) -> Parameter:
    where = f"space.{key}"
    if isinstance(node, list):
        raise _BadParameterError(Fault(where, "is a list", f"write {{choice: {node}}}"))
    if not isinstance(node, Mapping):
        raise _BadParameterError(Fault(where, "is not a mapping", f"write {key}: {{choice: [{node}, …]}}"))
    kinds = [name for name in node if name in KINDS]
    if unknown := [name for name in node if name not in (*KINDS, _WHEN, _STEPS)]:
        near = did_you_mean(str(unknown[0]), KINDS, f"choose from {', '.join(KINDS)}")
        raise _BadParameterError(Fault(f"{where}.{unknown[0]}", "no such kind of parameter", near))
    if len(kinds) != 1:
        raise _BadParameterError(Fault(where, "needs one kind of values", f"choose from {', '.join(KINDS)}"))
    kind, values = kinds[0], node[kinds[0]]
    if fault := _values_fault(kind, values):
        raise _BadParameterError(Fault(f"{where}.{kind}", fault, f"write {KINDS[kind]}", str(values)))
    when = node.get(_WHEN) or {}
    for other in when:
        if other not in before:
            remedy = f"choose from {', '.join(before) or 'none'}"
            raise _BadParameterError(Fault(f"{where}.when.{other}", "is not a parameter above this one", remedy))
    steps = node.get(_STEPS, 5)
    if not isinstance(steps, int) or steps < 2:
        raise _BadParameterError(Fault(f"{where}.steps", "must be an integer of 2 or more", "", str(steps)))
    listed = {str(name): tuple(value) if isinstance(value, list) else (value,) for name, value in when.items()}
    for other, wanted in listed.items():
        never = [value for value in wanted if before[other].kind == "choice" and value not in before[other].values]
        if never:
            names = [str(value) for value in before[other].values]
            remedy = did_you_mean(str(never[0]), names, f"choose from {', '.join(names)}")
            raise _BadParameterError(Fault(f"{where}.when.{other}", f"is no value of {other}", remedy, str(never[0])))
    return Parameter(key, kind, tuple(values), listed, steps)


def _values_fault(kind: str, values: Any) -> str | None:
    """Return the reason why values don't fit a kind; None if they fit."""
    if not isinstance(values, list) or not values:
        return "is not a list of values"
    if kind == "choice":
        return None
    types = (int,) if kind == "int" else (int, float)
    if len(values) != 2 or any(isinstance(value, bool) or not isinstance(value, types) for value in values):
        return "must have two ends"
    if values[0] >= values[1]:
        return "the first end must be below the second"
    return "must be positive" if kind == "log_float" and values[0] <= 0 else None


def chosen_values(space: list[Parameter], trial: Trial) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a trial; parameters that are not used are left out."""
    chosen: dict[str, Any] = {}
    for parameter in space:
        if parameter.is_used(chosen):
            chosen[parameter.key] = parameter.suggest(trial)
            yield parameter.key, chosen[parameter.key]
