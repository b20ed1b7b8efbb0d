"""Lookup, signature checks and calls of the classes and functions given as `_target_` in a config.

A target written by the user may be anything importable (see `trust`). A target in saved data must be built in or also
written by the user. The same rule applies to nested targets, and all of them are looked up before the first is called.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, cast

from convoy.config import builtin_targets
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.trust import TRUST, nested_targets
from convoy.config.user_modules import described, import_target

SETTINGS: dict[str, frozenset[str]] = {
    "model": frozenset(
        {"lr", "auxiliary_weight", "freeze", "unfreeze_epoch", "freeze_norms", "stochastic_depth", "card"}
    ),
    "optimizer": frozenset({"decay_norms_and_biases", "layer_decay"}),
    "scheduler": frozenset({"interval", "monitor"}),
    "task": frozenset({"target", "monitor", "mode", "percent"}),
}
"""Keys of each group that Convoy reads and doesn't pass to the target."""


def target_faults(key: str, node: Any) -> list[Fault]:
    """Return a fault for each target that is missing, not text, or not trusted. Imports nothing.

    Args:
        key: of the config, which begins with the group: `optimizer`, or `metric.f1`.
        node: a mapping with a `_target_`.
    """
    group = _group(key)
    if not isinstance(node, Mapping) or "_target_" not in node:
        remedy = f"write _target_: module.Class, as the files of conf/{group}/ do"
        return [Fault(f"{key}._target_", "is missing", remedy)]
    return [
        _refusal(f"{path}._target_", child["_target_"])
        for path, child in nested_targets(node, key)
        if not (isinstance(child["_target_"], str) and _may_be_named(group, child["_target_"]))
    ]


def resolve(target: str, key: str) -> Callable[..., Any]:
    """Return the class or function at a dotted path.

    Args:
        target: the dotted path.
        key: of the config, which begins with the group.

    Raises:
        UserError: if the target isn't trusted, or there is no such class or function.
    """
    if not isinstance(target, str):
        raise UserError(_refusal(f"{key}._target_", target))
    if TRUST.declares(target):
        return cast(Callable[..., Any], import_target(target, f"{key}._target_", TRUST.module_folders))
    found = builtin_targets.find(_group(key), target)
    if found is None:
        raise UserError(_refusal(f"{key}._target_", target))
    return cast(Callable[..., Any], found)


def takes(node: Mapping[str, Any], key: str, name: str) -> bool:
    """Return whether the target of `node` has an argument of that name. Imports the target's module."""
    return name in parameters_of(resolve(node["_target_"], key))


def parameters_of(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the arguments of a class or function; any keyword if it has no signature."""
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):
        return inspect.signature(lambda **keywords: keywords).parameters


def takes_any_keyword(parameters: Mapping[str, inspect.Parameter]) -> bool:
    """Return whether a signature ends in `**keywords`."""
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def arguments(key: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of the target: the node without `_target_` and Convoy's settings."""
    settings = SETTINGS.get(_group(key), frozenset()) | {"_target_", "_partial_"}
    return {name: value for name, value in node.items() if name not in settings}


def signature_faults(key: str, node: Mapping[str, Any], given: frozenset[str] = frozenset()) -> list[Fault]:
    """Return a fault for each key that the target's signature lacks and each required argument without a value.

    Imports the target's module.

    Args:
        key: of the config, which begins with the group.
        node: a mapping with a `_target_`.
        given: names that Convoy passes itself (a model's num_classes, an optimizer's params, …).
    """
    try:
        target = resolve(node["_target_"], key)
    except UserError as error:
        return list(error.faults)
    parameters, values = parameters_of(target), arguments(key, node)
    if takes_any_keyword(parameters):
        return []
    faults = _unknown_arguments(key, node, parameters, given)
    faults += [
        Fault(f"{key}.{name}", f"{node['_target_']} needs it", f"write +{key}.{name}=…, or {name}: … in its file")
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name not in given
        and name not in values
    ]
    return faults


def _unknown_arguments(
    key: str, node: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter], given: Collection[str]
) -> list[Fault]:
    """Return a fault for each key that the target's signature lacks; none for one that takes any keyword."""
    if takes_any_keyword(parameters):
        return []
    names = [name for name in parameters if name not in given]
    otherwise = f"it has {', '.join(names)}" if names else "it has no arguments that a config can set"
    rule = f"{node['_target_']} has no such argument"
    return [
        Fault(f"{key}.{name}", rule, did_you_mean(name, names, otherwise), str(value))
        for name, value in arguments(key, node).items()
        if name not in parameters
    ]


def build(key: str, node: Mapping[str, Any], *positional: Any, **given: Any) -> Any:
    """Build the object that `node` describes, nested targets first. `given` wins over the node's keys.

    With `_partial_: true` the target is not called: its arguments are bound to it.

    Args:
        key: of the config, which begins with the group.
        node: a mapping with a `_target_`.
        positional: passed to the target before its other arguments.
        given: arguments that Convoy passes itself.

    Raises:
        UserError: if a target isn't trusted, the arguments don't fit its signature, or the target raises an exception.
    """
    faults = target_faults(key, node)
    if faults:
        raise UserError(*faults)
    for path, child in nested_targets(node, key):
        resolve(child["_target_"], path)
    target = resolve(node["_target_"], key)
    try:
        values = {name: _build_nested(value, f"{key}.{name}") for name, value in arguments(key, node).items()} | given
        called = partial if node.get("_partial_") else _called
        _check_call(key, node, target, positional, values)
        return called(target, *positional, **values)
    except UserError:
        raise
    except Exception as error:
        # A defect in a class of Convoy is not a mistake of the user; these are usually of sizes that don't work.
        if str(getattr(target, "__module__", "")).startswith("convoy.") and not isinstance(
            error, (TypeError, ValueError, RuntimeError, OverflowError)
        ):
            raise
        if isinstance(error, ImportError):
            rule, remedy = f"{node['_target_']} needs a package: {error}", "install it"
        else:
            rule, remedy = f"{node['_target_']} can't be built ({described(error, TRUST.module_folders)})", ""
        raise UserError(Fault(key, rule, remedy)) from error


def _called(target: Callable[..., Any], /, *positional: Any, **values: Any) -> Any:
    return target(*positional, **values)


def _check_call(
    key: str, node: Mapping[str, Any], target: Callable[..., Any], positional: tuple[Any, ...], values: dict[str, Any]
) -> None:
    """Raise if arguments don't fit the signature of a target, as far as it states one."""
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return
    try:
        (signature.bind_partial if node.get("_partial_") else signature.bind)(*positional, **values)
    except TypeError as error:
        unknown = _unknown_arguments(key, node, signature.parameters, values.keys() - node.keys())
        raise UserError(*(unknown or [Fault(key, f"{node['_target_']}: {error}")])) from error


def _build_nested(node: Any, key: str) -> Any:
    """Return `node` with each nested target built; `_partial_: true` binds the arguments only."""
    if isinstance(node, Mapping):
        children = {name: _build_nested(child, f"{key}.{name}") for name, child in node.items()}
        if "_target_" not in children:
            return children
        target = resolve(children.pop("_target_"), key)
        if children.pop("_partial_", False):
            return partial(target, **children)
        return target(**children)
    if isinstance(node, list):
        return [_build_nested(child, f"{key}[{index}]") for index, child in enumerate(node)]
    return node


def _group(key: str) -> str:
    return re.split(r"[.\[]", key)[0]


def _may_be_named(group: str, target: str) -> bool:
    return TRUST.declares(target) or builtin_targets.is_spelled_like_one(group, target)


def _refusal(key: str, target: Any) -> Fault:
    if not isinstance(target, str):
        return Fault(key, "must be the dotted path of a class or function", "write module.Class", str(target))
    rule = "comes from a saved file, and is neither built in nor named in your configuration"
    remedy = (
        f"to trust it, write --config-dir <folder>, where <folder>/{_group(key)}/<name>.yaml has "
        f'"_target_: {target}" and its module is beside <folder>'
    )
    return Fault(key, rule, remedy, target)
