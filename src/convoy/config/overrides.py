"""A command line's overrides, parsed: choices of options apart from values of keys."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from convoy.config.faults import Fault, did_you_mean
from convoy.config.hydra_errors import first_line, written
from convoy.config.options import Options
from convoy.config.schema import GROUPS, LIST_GROUPS, OPTIONAL_GROUPS


@dataclass(frozen=True)
class Request:
    """What was typed, parsed: choices of groups apart from values of keys.

    Attributes:
        groups: overrides that choose an option (`model=vgg16`).
        values: overrides that set, add or delete a key (`trainer.gpus=2`).
        faults: what could not be parsed or chosen.
    """

    groups: list[Override] = field(default_factory=list)
    values: list[Override] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def parse(overrides: Sequence[str], options: Options) -> Request:
    """Parse overrides one by one and check the options that they name."""
    parser = OverridesParser.create()
    request = Request()
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException as error:
            request.faults.append(_syntax_fault(text, error))
            continue
        key = override.key_or_group
        if key == "hydra" or key.startswith(("hydra.", "hydra/")):
            remedy = "set output_root or name for the folder, -m for a sweep"
            request.faults.append(Fault(key, "a run's folder and log are Convoy's own, not Hydra's", remedy))
        elif key in GROUPS and not override.is_delete():
            faults = _choice_faults(override, options)
            request.faults.extend(faults)
            if not faults:
                request.groups.append(override)
        else:
            request.values.append(override)
    return request


def _choice_faults(override: Override, options: Options) -> list[Fault]:
    group, available = override.key_or_group, options.of(override.key_or_group)
    if override.is_sweep_override():
        remedy = "add -m to run each" + (f", or write {group}=[a,b]" if group in LIST_GROUPS else "")
        return [Fault(group, "several options are a sweep", remedy, written(override))]
    value = override.value()
    if value is None and group in OPTIONAL_GROUPS:
        return []
    chosen = value if isinstance(value, list) else [value]
    if isinstance(value, (dict, bool)) or (isinstance(value, list) and group not in LIST_GROUPS):
        return [Fault(group, "takes one option", f"one of {', '.join(available)}", written(override))]
    return [
        Fault(group, "no such option", _option_remedy(str(name), group, available), str(name))
        for name in chosen
        if str(name) not in available
    ]


def _option_remedy(name: str, group: str, available: Sequence[str]) -> str:
    unused = next(Path.cwd().glob(f"*/{group}/{glob.escape(name)}.yaml"), None)
    if unused is not None:
        return f"write --config-dir {unused.parents[1].name}, which has it"
    listed = f"options: {', '.join(available)}"
    near = did_you_mean(name, available)
    return f"{near} ({listed})" if near else f"{listed}; or add conf/{group}/{name}.yaml"


def _syntax_fault(text: str, error: Exception) -> Fault:
    key, sign, value = text.partition("=")
    if not sign:
        rule = "is not key=value" if not text.startswith("-") else "no such flag"
        remedy = f"write {text}=…" if not text.startswith("-") else "see convoy train --help"
        return Fault(text, rule, remedy)
    remedy = "quote a value with special characters: 'key=\"value\"'"
    return Fault(key, f"can't be read ({first_line(error)})", remedy, value)
