"""Parsing of a command line's overrides into choices of options and values of keys."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from convoy.config.faults import Fault, closest, did_you_mean
from convoy.config.foreign_words import advice, assignment, option_advice, translated, translated_value
from convoy.config.hydra_errors import first_line, written
from convoy.config.options import Options
from convoy.config.override_text import parse_override
from convoy.config.schema import GROUPS, LIST_GROUPS, OPTIONAL_GROUPS

FOLDERS = {"index.json": "shards", "dataset_dict.json": "huggingface", "state.json": "huggingface"}
"""Data option for a folder with a file of that name, of packed shards or written by `save_to_disk` (docs/data.md)."""

_HYDRA_FLAGS = {
    "--config-name": "choose options instead: model=…, experiment=…",
    "-cn": "choose options instead: model=…, experiment=…",
    "--config-path": "add a folder of options with --config-dir",
    "-cp": "add a folder of options with --config-dir",
    "--info": "convoy train --cfg job prints the composed config",
    "-i": "convoy train --cfg job prints the composed config",
    "--hydra-help": "see convoy train --help",
    "--version": "write convoy --version",
    "--run": "omit it",
    "-r": "omit it",
}
"""Remedies for flags of Hydra that Convoy doesn't support."""


@dataclass(frozen=True)
class Request:
    """Parsed overrides: choices of groups separate from values of keys.

    Attributes:
        groups: overrides that choose an option (`model=vgg16`).
        values: overrides that set, add or delete a key (`trainer.gpus=2`).
        faults: faults of the overrides that could not be parsed or chosen.
    """

    groups: list[Override] = field(default_factory=list)
    values: list[Override] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def parse(overrides: Sequence[str], options: Options) -> Request:
    """Parse overrides one by one and check that their options exist."""
    request = Request()
    for text in _with_values_of_flags(overrides):
        try:
            override = parse_override(text)
        except HydraException as error:
            request.faults.append(_syntax_fault(text, error, options))
            continue
        if override.key_or_group == "data" and _is_path(override.value(), options):
            _choose_by_path(str(override.value()), request)
            continue
        key = override.key_or_group
        if not key.strip("+@"):
            request.faults.append(Fault(repr(text), "has no key", "remove it, or add a key before ="))
        elif key == "hydra" or key.startswith(("hydra.", "hydra/")):
            request.faults.append(_hydra_fault(key, written(override)))
        elif key in GROUPS and not override.is_delete():
            if override.is_add():  # Hydra's own message names a remedy for YAML files
                override = parse_override(text.lstrip("+"))
            faults = _choice_faults(override, options)
            request.faults.extend(faults)
            if not faults:
                request.groups.append(override)
        else:
            request.values.append(override)
    return request


def _with_values_of_flags(words: Sequence[str]) -> Iterator[str]:
    """Yield the words, each flag joined with a value after it: `--epochs 5` is one mistake."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        takes_value = word.startswith("--") and "=" not in word and word not in _HYDRA_FLAGS
        if takes_value and rest and not rest[0].startswith("-") and "=" not in rest[0]:
            word = f"{word}={rest.pop(0)}"
        yield word


def _is_path(name: object, options: Options) -> bool:
    """Return whether a value of `data=` is a path instead of an option."""
    if not isinstance(name, str) or not name or name in options.of("data"):
        return False
    return "/" in name or name.startswith((".", "~")) or Path(name).exists()


def _choose_by_path(text: str, request: Request) -> None:
    """Choose the data option for a folder: one of `FOLDERS`, or else a folder of images."""
    path = Path(text).expanduser()
    if path.is_dir():
        option = next((option for file, option in FOLDERS.items() if (path / file).is_file()), "image_folder")
        if option == "image_folder" and next(path.glob("*.tar"), None) is not None:
            rule, remedy = "has tar files without an index", f"index them first: convoy index tars={text}"
            request.faults.append(Fault("data", rule, remedy, text))
            return
        request.groups.append(parse_override(f"data={option}"))
        request.values.insert(0, parse_override(f"data.root={path}"))
    elif path.is_file():
        remedy = f"write data=table data.file={text} data.image_column=… data.target_column=… for a table of images"
        request.faults.append(Fault("data", "is a file, not a folder of images", remedy, text))
    else:
        remedy = "give a folder of images with train/<class>/, or an option; convoy train --help data lists them"
        if text.count("/") == 1 and not text.startswith((".", "~", "/")) and not path.parent.exists():
            remedy += f"; a set of the Hugging Face Hub is data=huggingface data.root={text}"
        request.faults.append(Fault("data", "no such folder", remedy, text))


def _choice_faults(override: Override, options: Options) -> list[Fault]:
    group, available = override.key_or_group, options.of(override.key_or_group)
    if override.is_sweep_override():
        both = f", or write {group}=[{written(override)}]" if group in LIST_GROUPS else ""
        remedy = f"add -m to run each{both}"
        return [Fault(group, "several options are a sweep", remedy, written(override))]
    value = override.value()
    if value is None and group in OPTIONAL_GROUPS:
        return []
    if value is None or value == "":
        written_null = None if value == "" else "null"
        return [Fault(group, "needs a value", f"one of {', '.join(available)}", written_null)]
    chosen = value if isinstance(value, list) else [value]
    if isinstance(value, (dict, bool)) or (isinstance(value, list) and group not in LIST_GROUPS):
        return [Fault(group, "takes one option", f"one of {', '.join(available)}", written(override))]
    return [
        Fault(group, "no such option", _option_remedy(str(name), group, available), str(name))
        for name in chosen
        if str(name) not in available
    ]


def _option_remedy(name: str, group: str, available: Sequence[str]) -> str:
    known = translated_value(group, name)
    if known in available:
        return f"write {group}={known}"
    if (remedy := option_advice(group, name)) is not None:
        return remedy
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
    known = name if name in GROUPS else translated(name)
    if known is not None:
        return Fault(
            flag,
            "is a key, not a flag" if known == name else "no such flag",
            f"write {assignment(known, value or '…')}",
        )
    if (remedy := advice(name)) is not None:
        return Fault(flag, "no such flag", remedy)
    near = closest(name, GROUPS)
    return Fault(flag, "no such flag", f"did you mean {near}={value or '…'}?" if near else "see convoy train --help")


def _hydra_fault(key: str, value: str) -> Fault:
    """Return the fault of a key of Hydra, with Convoy's equivalent."""
    if key.startswith(("hydra/sweeper", "hydra.sweeper")):
        search = "to draw values, convoy search 'optimizer.lr=interval(0.001,0.1)' trials=20"
        return Fault(key, "Convoy uses no sweepers of Hydra", f"for a grid, add -m; {search}", value)
    if key.startswith(("hydra/launcher", "hydra.launcher")):
        rule = "Convoy uses no launchers of Hydra"
        return Fault(key, rule, "add -m workers=2 for runs at the same time, or use convoy submit -m for Slurm", value)
    remedy = "set output_root or name for the folder, -m for a sweep"
    return Fault(key, "Convoy, not Hydra, manages a run's folder and log", remedy)


def _syntax_fault(text: str, error: Exception, options: Options) -> Fault:
    key, sign, value = text.partition("=")
    if not key.strip():
        return Fault(repr(text), "is not key=value", "remove it, or add a key")
    if text.startswith("-"):
        return _flag_fault(key, value)
    if not sign:
        group = next((group for group in GROUPS if text in options.of(group)), None)
        if text in GROUPS:
            return Fault(text, "is not key=value", f"write {text}=<option>, such as {text}={options.of(text)[0]}")
        if text == "train":
            return Fault(text, "is not key=value", "remove it")
        return Fault(text, "is not key=value", f"write {group}={text}" if group else "see convoy train --help")
    remedy = "quote a value with special characters: 'key=\"value\"'"
    return Fault(key, f"can't be read ({first_line(error)})", remedy, value)
