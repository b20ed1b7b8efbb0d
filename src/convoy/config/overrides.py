"""A command line's overrides, parsed: choices of options apart from values of keys."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from convoy.config.faults import Fault, closest, did_you_mean
from convoy.config.foreign_words import VALUES
from convoy.config.hydra_errors import first_line, written
from convoy.config.options import Options
from convoy.config.schema import GROUPS, LIST_GROUPS, OPTIONAL_GROUPS

_HYDRA_FLAGS = {
    "--config-name": "choose options instead: model=…, experiment=…",
    "-cn": "choose options instead: model=…, experiment=…",
    "--config-path": "add a folder of options with --config-dir",
    "-cp": "add a folder of options with --config-dir",
    "--info": "convoy train --cfg job prints the composed config",
    "-i": "convoy train --cfg job prints the composed config",
    "--hydra-help": "see convoy train --help",
    "--version": "write convoy --version",
    "--run": "leave it out",
    "-r": "leave it out",
}
"""Flags of Hydra that Convoy has no use for, with the remedy."""


@dataclass(frozen=True)
class Request:
    """Parsed overrides: choices of groups separate from values of keys.

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
            request.faults.append(_syntax_fault(text, error, options))
            continue
        key = override.key_or_group
        if key in ("hydra/sweeper", "hydra/launcher"):
            rule = "Convoy runs sweeps itself and uses no Hydra plugins"
            remedy = "add -m for a grid in this process, or convoy submit -m for a job array"
            request.faults.append(Fault(key, rule, remedy, written(override)))
        elif key == "hydra" or key.startswith(("hydra.", "hydra/")):
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
    known = VALUES.get(group, {}).get(name)
    if known in available:
        return f"write {group}={known}"
    if group == "data" and ("/" in name or name.startswith((".", "~"))):
        return f"write data=image_folder data.root={name}"
    unused = next(Path.cwd().glob(f"*/{group}/{glob.escape(name)}.yaml"), None)
    if unused is not None:
        return f"write --config-dir {unused.parents[1].name}, which has it"
    listed = f"options: {', '.join(available)}"
    near = did_you_mean(name, available)
    return f"{near} ({listed})" if near else f"{listed}; or add conf/{group}/{name}.yaml"


def _flag_fault(flag: str, value: str) -> Fault:
    if flag in _HYDRA_FLAGS:
        return Fault(flag, "Convoy doesn't use this flag of Hydra", _HYDRA_FLAGS[flag])
    name = flag.lstrip("-").replace("-", "_")
    if name in GROUPS:
        return Fault(flag, "is a key, not a flag", f"write {name}={value or '…'}")
    near = closest(name, GROUPS)
    return Fault(flag, "no such flag", f"did you mean {near}={value or '…'}?" if near else "see convoy train --help")


def _syntax_fault(text: str, error: Exception, options: Options) -> Fault:
    key, sign, value = text.partition("=")
    if text.startswith("-"):
        return _flag_fault(key, value)
    if not sign:
        group = next((group for group in GROUPS if text in options.of(group)), None)
        if text in GROUPS:
            return Fault(text, "is not key=value", f"write {text}=<option>, such as {text}={options.of(text)[0]}")
        if text == "train":
            return Fault(text, "is not key=value", "leave it out")
        return Fault(text, "is not key=value", f"write {group}={text}" if group else "see convoy train --help")
    remedy = "quote a value with special characters: 'key=\"value\"'"
    return Fault(key, f"can't be read ({first_line(error)})", remedy, value)
