"""Composition of a command line into a typed config, with every fault reported at once.

Hydra composes the config. This module applies overrides one by one, so that a wrong override does not hide the next
one, and reports faults in terms of the command line. Torch is not imported, so that a typo is reported in well under a
second.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, Node, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from convoy.config.cards import ConfigWithCards, without_cards
from convoy.config.faults import Fault, UserError
from convoy.config.foreign_words import translated_value
from convoy.config.hydra_errors import first_line, known_keys, near_key, reworded, takes_new_keys, value_fault, written
from convoy.config.options import CONF, Options
from convoy.config.output_paths import texts
from convoy.config.overrides import parse
from convoy.config.schema import GROUPS, OPEN_GROUPS, Config
from convoy.config.trust import TRUST
from convoy.config.value_types import type_faults

ConfigStore.instance().store(name="schema", node=ConfigWithCards)


def compose(overrides: Sequence[str], options: Options | None = None) -> DictConfig:
    """Compose conf/ and the overrides into a config that matches the schema.

    Raises:
        UserError: if there are faults; all are reported.
    """
    options = options or Options()
    request = parse(overrides, options)
    faults = list(request.faults)
    choices = [str(override.input_line) for override in request.groups]
    base = _compose_or_fault(choices, options, faults)
    if base is None:
        raise UserError(*faults)
    config = apply(base, request.values, faults)
    TRUST.add_typed(request.values)
    TRUST.add_composed(config)
    if faults:
        # The valid values may violate a rule across groups, which is reported together with the invalid ones.
        raise OverrideError(faults, config)
    return config


class OverrideError(UserError):
    """Error for overrides that could not be applied, with the config of the others."""

    def __init__(self, faults: Sequence[Fault], config: DictConfig) -> None:
        super().__init__(*faults)
        self.config = config


def apply(base: DictConfig, values: Sequence[Override], faults: list[Fault]) -> DictConfig:
    """Return a copy of `base` with each valid value set; faults of the others are added to `faults`."""
    config = copy.deepcopy(base)
    for override in values:
        key = override.key_or_group
        try:
            value = override.value()
            above = _parent_fault(config, override)
            if override.is_delete():
                remedy = (
                    f"write {key}=<option>"
                    if OmegaConf.is_dict(OmegaConf.select(config, key))
                    else f"write {key}=null to switch it off"
                )
                faults.append(Fault(f"~{key}", "a key can't be deleted", remedy))
            elif override.is_sweep_override():
                rule = "several values are a sweep"
                remedy = "add -m to run each, or [brackets] for a list"
                faults.append(Fault(key, rule, remedy, written(override)))
            elif above is not None:
                faults.append(above)
            elif override.is_add():
                faults.extend(_add(config, override, key, value))
            else:
                faults.extend(_set(config, base, key, value))
        except (OmegaConfBaseException, HydraException, ValueError) as error:
            faults.append(value_fault(key, override, error))
        except (AssertionError, AttributeError, TypeError):
            faults.append(Fault(key, "has the wrong type", f"see convoy train --help {key.split('.')[0]}"))
    return config


def _parent_fault(config: DictConfig, override: Override) -> Fault | None:
    """Return the fault of a key below a value that has no keys; None if there is no such value."""
    key, value = override.key_or_group, written(override)
    parent, node = _leaf_above(config, key)
    if node is None:
        return None
    if node._is_none():
        rule, remedy = "is null, so it has no keys", _null_remedy(parent, key.removeprefix(f"{parent}."), value)
    elif isinstance(node, ListConfig):
        rule, remedy = "is a list, so it has no keys", f"write {parent}=[…]"
    else:
        rule, remedy = "is a value, so it has no keys", f"write {parent}=…"
    return Fault(f"+{key}" if override.is_add() else key, f"{parent} {rule}", remedy, value)


def _leaf_above(config: DictConfig, key: str) -> tuple[str, Node | None]:
    """Return the longest prefix of a key that exists, and its value if that has no keys, or None."""
    node: Any = config
    parts = key.split(".")
    for length, name in enumerate(parts[:-1], 1):
        node = node._get_node(name, validate_access=False)
        if node is None:
            break
        if isinstance(node, ListConfig) and not node._is_none() and parts[length].isdecimal():
            break  # an item
        if not isinstance(node, DictConfig) or node._is_none():
            return ".".join(parts[:length]), node
    return "", None


def _null_remedy(parent: str, name: str, value: str) -> str:
    group, _, rest = parent.partition(".")
    if parent == "data.arguments":
        return f"write '{parent}={{{name}: {value}}}'"
    if parent in ("data.train", "data.val", "data.test"):
        return f"write data=dataset '{parent}={{_target_: module.Class, {name}: {value}}}'"
    if group == "logger" and rest:
        return f"add logger={rest}, or logger=[…,{rest}] for several"
    if parent == "cluster":
        return "choose one with cluster=<option>; convoy train --help cluster lists them"
    return f"see convoy train --help {group}" if group in GROUPS else f"write {parent}=…"


def to_config(config: DictConfig) -> Config:
    """Resolve every interpolation and return plain dataclasses.

    Raises:
        UserError: if a mandatory value is missing, an interpolation has no target, or a value has the wrong type.
    """
    missing = sorted(_missing(OmegaConf.to_container(config)))
    if missing:
        raise UserError(*(Fault(key, "must be set", f"write {key}=…") for key in missing))
    try:
        resolved = cast(Config, OmegaConf.to_object(config))
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", "") or "config")
        raise UserError(Fault(key, first_line(error))) from error
    if faults := type_faults(resolved):
        raise UserError(*faults)
    return resolved


def _missing(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the full keys of mandatory values that are not set; interpolations are not resolved."""
    for name, value in node.items() if isinstance(node, dict) else ():
        if value == "???":
            yield f"{prefix}{name}"
        yield from _missing(value, f"{prefix}{name}.")


def from_saved(saved: Mapping[str, Any]) -> DictConfig:
    """Return the saved config of a run, checked against the schema.

    Raises:
        UserError: if the file has keys or types that this version of Convoy doesn't support, or an interpolation,
            which could read environment variables.
    """
    interpolations = [
        Fault(key, "an interpolation in a saved config", "write the value itself", text)
        for key, text in texts(saved)
        if "${" in text
    ]
    if interpolations:
        raise UserError(*interpolations)
    return _structured(saved)


def _structured(saved: Mapping[str, Any]) -> DictConfig:
    """Return plain containers as a config of the schema's types."""
    try:
        config = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(dict(saved)))
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", "") or "config.yaml")
        remedy = "it was written by another version of Convoy; correct the file or start a new run"
        raise UserError(Fault(key, first_line(error), remedy)) from error
    OmegaConf.set_struct(config, True)
    return cast(DictConfig, config)


def overlay(saved: DictConfig, overrides: Sequence[str], options: Options | None = None) -> DictConfig:
    """Return a saved config with overrides: first options, then values.

    Raises:
        UserError: if there are faults; all are reported.
    """
    options = options or Options()
    request = parse(overrides, options)
    faults = list(request.faults)
    chosen = [str(override.input_line) for override in request.groups]
    fresh = _compose_or_fault(chosen, options, faults) if chosen else None
    content = cast(dict[str, Any], OmegaConf.to_container(saved))
    TRUST.add_typed(request.values)
    if fresh is not None:
        TRUST.add_composed(fresh)
        groups = {override.key_or_group for override in request.groups} - {"experiment", "debug"}
        if "model" not in groups:
            fresh.model = saved.model  # an optimizer option reads the model's learning rates
        for group in groups:
            content[group] = OmegaConf.to_container(fresh[group], resolve=True)
    if any(override.key_or_group == "experiment" for override in request.groups):
        rule = "an experiment can't override an existing run"
        faults.append(Fault("experiment", rule, "start a new run with the experiment"))
    if any(override.key_or_group == "debug" for override in request.groups):
        remedy = "write debug.detect_anomaly=true or debug.profile_steps=20, or start a new run"
        faults.append(Fault("debug", "an option of debug can't override an existing run", remedy))
    if faults:
        raise UserError(*faults)
    config = _structured(content)
    config = apply(config, request.values, faults)
    if faults:
        raise UserError(*faults)
    return config


def _compose_or_fault(choices: Sequence[str], options: Options, faults: list[Fault]) -> DictConfig | None:
    """Compose the chosen options; a fault in a YAML file is added to `faults`."""
    TRUST.add_folder(options.folder)
    searchpath = [f"hydra.searchpath=[file://{options.folder.resolve()}]"] if options.folder else []
    of_caller = GlobalHydra.instance().hydra  # if a program of Hydra uses Convoy
    try:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = hydra_compose("train", overrides=[*searchpath, *choices], return_hydra_config=True)
        return _config_alone(composed)
    except YAMLError as error:
        where_in_file = str(getattr(error, "problem_mark", "")).strip()
        remedy = 'text with braces is quoted in a list: "FC-{num_classes}"'
        faults.append(Fault(" ".join(choices) or "conf", f"is not YAML {where_in_file}", remedy))
        return None
    except Exception as error:  # Hydra also raises ValueError, TypeError and others for a malformed file
        # Hydra names the file in its first line, and OmegaConf's error in the next.
        where = re.match(r"In '([^']+)'", str(error))
        full_key = re.search(r"full_key: (\S+)", str(error))
        key = full_key[1] if full_key else " ".join(choices) or "conf/train.yaml"
        lines = str(error).splitlines()
        cause = ValueError(lines[1]) if where and len(lines) > 1 else error
        rule, remedy = reworded(cause, key, list(known_keys(OmegaConf.structured(Config))))
        faults.append(Fault(key, f"in conf/{where[1]}.yaml: {rule}" if where else rule, remedy))
        return None
    finally:
        GlobalHydra.instance().hydra = of_caller


def _config_alone(composed: DictConfig) -> DictConfig:
    """Return the config without Hydra's part and cards. The default name of a model is that of its option file."""
    option = composed.hydra.runtime.choices.model
    with open_dict(composed):
        del composed["hydra"]
    content = without_cards(cast(dict[str, Any], OmegaConf.to_container(composed)))
    content["model"].setdefault("name", option)
    config = cast(DictConfig, OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.create(content)))
    OmegaConf.set_struct(config, True)
    return config


def _set(config: DictConfig, base: DictConfig, key: str, value: Any) -> list[Fault]:
    known = translated_value(key, str(value))
    if known is not None and known != str(value):
        return [Fault(key, "no such choice", f"write {key}={known}", str(value))]
    if key.split(".")[0] in OPEN_GROUPS:
        before = OmegaConf.select(base, key)
        if isinstance(before, str) and isinstance(value, (list, dict)):
            return [Fault(key, "must be text", f"its default is {before}", str(value))]
        wanted = _kind(before)
        if wanted and value is not None and _kind(value) != wanted and not _text_or_number(before, value):
            return [Fault(key, f"must be {wanted}", f"its default is {before}", str(value))]
    # OmegaConf fails where it merges a mapping into null.
    merge = isinstance(value, dict) and OmegaConf.select(config, key) is not None
    OmegaConf.update(config, key, value, merge=merge)
    return []


def _add(config: DictConfig, override: Override, key: str, value: Any) -> list[Fault]:
    """Set `+key=value` (and ++), a new argument of a `_target_` or of a class; other mappings accept none."""
    if not takes_new_keys(config, key):
        parent, names = key.rpartition(".")[0], list(known_keys(config))
        if key in names:
            return [Fault(f"+{key}", "exists already", f"write {key}={written(override)}", str(value))]
        rule = f"{parent} takes no new keys" if parent in names else "no such key"
        return [Fault(f"+{key}", rule, near_key(key, names), str(value))]
    if override.is_add() and not override.is_force_add() and OmegaConf.select(config, key) is not None:
        return [Fault(f"+{key}", "exists already", f"write {key}={value}", str(value))]
    OmegaConf.update(config, key, value, force_add=True)
    return []


def _kind(value: Any) -> str | None:
    """Return a description of a value's type in an open group; None for null."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, (list, tuple)) or OmegaConf.is_list(value):
        return "a list"
    if isinstance(value, Mapping) or OmegaConf.is_dict(value):
        return "a mapping"
    return None


def _text_or_number(before: Any, value: Any) -> bool:
    """Return whether a value is text for a switch that takes text, or text that looks like a number."""
    if isinstance(before, bool):
        return isinstance(value, str)
    return isinstance(before, str)
