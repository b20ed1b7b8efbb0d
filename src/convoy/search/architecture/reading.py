"""Spaces and samplers of architectures, as a study's YAML file names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.search.architecture.cell_space import CellSpace
from convoy.search.architecture.chain_space import ChainSpace
from convoy.search.architecture.compound_space import CompoundSpace
from convoy.search.architecture.decisions import ArchitectureSpace, Strategy, UniformDraws
from convoy.search.architecture.evolution import Evolution
from convoy.search.architecture.reinforce import Reinforce
from convoy.search.architecture.stage_space import StageSpace

SPACES: Mapping[str, Callable[[Any], ArchitectureSpace]] = {
    "chain": ChainSpace,
    "cells": CellSpace,
    "stages": StageSpace,
    "compound": CompoundSpace,
}
"""Kinds of spaces, by their key in the `architecture` block."""

_LEARNING = {"learning_rate": float, "decay": float}
_SETTINGS: Mapping[str, Mapping[str, type]] = {
    "evolution": {"population": int, "sample": int},
    "reinforce": _LEARNING,
    "lstm": {**_LEARNING, "hidden": int},
    "enas": {"epochs": int, "updates": int, "drawn": int, **_LEARNING, "hidden": int},
}
"""Settings of the samplers, with their types."""


def _lstm(space: ArchitectureSpace, **settings: Any) -> Strategy:
    from convoy.search.architecture.lstm import LstmPolicy  # imports torch, which a study's file alone does not need

    return LstmPolicy(space, **settings)


STRATEGIES: Mapping[str, Callable[..., Strategy]] = {"evolution": Evolution, "reinforce": Reinforce, "lstm": _lstm}
"""Samplers that choose the decisions of the next trial."""

SHARING = "enas"
"""Sampler that ranks networks with shared weights before the first trial."""


def strategy_of(sampler: str, space: ArchitectureSpace, settings: Mapping[str, Any]) -> Strategy | None:
    """Return the strategy of a sampler; None if Optuna samples."""
    if sampler == "random":
        return UniformDraws(space)
    return STRATEGIES[sampler](space, **settings) if sampler in STRATEGIES else None


def read_architecture(block: Any) -> ArchitectureSpace:
    """Return the space of an `architecture` block.

    Raises:
        UserError: the block does not have one kind of space, or the space has faults.
    """
    kinds = ", ".join(SPACES)
    if not isinstance(block, Mapping) or len(block) != 1:
        raise UserError(Fault("architecture", "needs one kind of space", f"choose from {kinds}"))
    ((kind, content),) = block.items()
    if kind not in SPACES:
        near = did_you_mean(str(kind), SPACES, f"choose from {kinds}")
        raise UserError(Fault(f"architecture.{kind}", "no such kind of space", near))
    return SPACES[kind](content)


def settings_faults(sampler: str, settings: Any) -> list[Fault]:
    """Return the faults of a sampler's settings.

    Args:
        sampler: its name.
        settings: from the study, `sampler: {evolution: {population: 20}}`.
    """
    known = _SETTINGS.get(sampler, {})
    if not isinstance(settings, Mapping):
        rule, remedy = "is not a mapping of settings", f"write sampler: {sampler}"
        return [Fault(f"sampler.{sampler}", rule, remedy, str(settings))]
    faults = []
    for key, value in settings.items():
        where = f"sampler.{sampler}.{key}"
        if key not in known:
            choice = f"choose from {', '.join(known)}" if known else f"write sampler: {sampler}"
            faults.append(Fault(where, "no such setting", did_you_mean(str(key), known, choice)))
        elif known[key] is int and (type(value) is not int or value < 1):
            faults.append(Fault(where, "must be an integer of 1 or more", "", str(value)))
        elif known[key] is float and (type(value) not in (int, float) or not 0 < value < 1):
            faults.append(Fault(where, "must be above 0 and below 1", "", str(value)))
    return faults
