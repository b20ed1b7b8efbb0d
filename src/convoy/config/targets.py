"""`_target_`: what a config may build, checked against its signature before it is built.

Hydra's own blocklist is no boundary, since it names what is forbidden. Here it is named what is allowed: each
group builds from the packages of `PACKAGES`, and what a dotted path leads to must itself come from an allowed
library, so that `torch.os.system` is refused although it begins with `torch`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from convoy.config.faults import Fault, UserError, did_you_mean

LIBRARIES = ("convoy", "torch", "torchvision", "timm", "torchmetrics")

PACKAGES: dict[str, tuple[str, ...]] = {
    "model": ("convoy.models", "torchvision.models", "timm.models", "timm.layers", "torch.nn"),
    "optimizer": ("convoy.optim", "torch.optim", "timm.optim"),
    "scheduler": ("convoy.optim", "torch.optim.lr_scheduler", "timm.scheduler"),
}

SETTINGS: dict[str, frozenset[str]] = {
    "model": frozenset({"lr", "auxiliary_weight", "freeze"}),
    "optimizer": frozenset({"decay_norms_and_biases"}),
    "scheduler": frozenset({"interval", "monitor"}),
}
"""Keys of a group that Convoy reads itself and does not hand to the target."""


def nested_targets(node: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each mapping with a `_target_` in `node`, itself included, with its full key."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield key, node
        for name, child in node.items():
            yield from nested_targets(child, f"{key}.{name}")
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from nested_targets(child, f"{key}[{index}]")


def target_faults(group: str, node: Mapping[str, Any]) -> list[Fault]:
    """Targets outside the packages that `group` may build from. Imports nothing."""
    faults = []
    if "_target_" not in node:
        faults.append(
            Fault(
                f"{group}._target_",
                "is missing",
                f"name the class or function in conf/{group}/, see its neighbours",
            )
        )
    for key, child in nested_targets(node, group):
        target = child["_target_"]
        if not isinstance(target, str) or not target.startswith(tuple(f"{package}." for package in PACKAGES[group])):
            faults.append(
                Fault(
                    f"{key}._target_",
                    "is outside what a config may build from",
                    f"choose from {', '.join(PACKAGES[group])}",
                    str(target),
                )
            )
    return faults


def resolve(target: str, key: str) -> Callable[..., Any]:
    """The class or function at a dotted path.

    Raises:
        UserError: there is nothing there, or what is there comes from another library.
    """
    parts = target.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:length])
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and module_name.startswith(error.name):
                continue
            raise
        found: Any = module
        for part in parts[length:]:
            if not hasattr(found, part):
                names = [name for name in dir(found) if not name.startswith("_")]
                remedy = did_you_mean(part, names, f"see what {module_name} has")
                raise UserError(Fault(f"{key}._target_", f"{module_name} has no {part}", remedy, target))
            found = getattr(found, part)
        origin = str(getattr(found, "__module__", "")).split(".")[0]
        if not callable(found) or origin not in LIBRARIES:
            rule = f"is not a class or function of {', '.join(LIBRARIES)}"
            raise UserError(Fault(f"{key}._target_", rule, "", target))
        return cast(Callable[..., Any], found)
    raise UserError(Fault(f"{key}._target_", f"no module {parts[0]}", "install it or mend the name", target))


def takes(node: Mapping[str, Any], group: str, name: str) -> bool:
    """Whether the target of `node` has an argument of that name. Imports the target's module."""
    return name in inspect.signature(resolve(node["_target_"], group)).parameters


def arguments(group: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """What is handed to the target: the node without `_target_` and Convoy's own settings."""
    return {name: value for name, value in node.items() if name != "_target_" and name not in SETTINGS[group]}


def signature_faults(group: str, node: Mapping[str, Any], given: frozenset[str]) -> list[Fault]:
    """Keys that the target's signature does not have, and required ones that are missing.

    Imports the target's module. `given` are the names that Convoy passes itself when it builds (a model's
    num_classes, an optimizer's params, …).
    """
    try:
        target = resolve(node["_target_"], group)
    except UserError as error:
        return list(error.faults)
    parameters = inspect.signature(target).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return []
    names = [name for name in parameters if name not in given]
    keys = arguments(group, node)
    faults = [
        Fault(
            f"{group}.{key}",
            f"{node['_target_']} has no such argument",
            did_you_mean(key, names, f"it has {', '.join(names)}"),
            str(value),
        )
        for key, value in keys.items()
        if key not in parameters
    ]
    faults += [
        Fault(f"{group}.{name}", f"{node['_target_']} needs it", f"write {group}.{name}=…")
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name not in given
        and name not in keys
    ]
    return faults


def build(group: str, node: Mapping[str, Any], *positional: Any, **given: Any) -> Any:
    """Build what `node` describes. `given` wins over the node's own keys; nested targets are built too.

    Raises:
        UserError: the target is not allowed, or its arguments don't fit its signature.
    """
    faults = target_faults(group, node)
    if faults:
        raise UserError(*faults)
    target = resolve(node["_target_"], group)
    keys = {name: _build_nested(value, f"{group}.{name}") for name, value in arguments(group, node).items()}
    try:
        bound = inspect.signature(target).bind(*positional, **{**keys, **given})
    except TypeError as error:
        raise UserError(Fault(group, f"{node['_target_']}: {error}")) from error
    return target(*bound.args, **bound.kwargs)


def _build_nested(node: Any, key: str) -> Any:
    """`_target_`s inside a node's arguments; `_partial_: true` binds the arguments only."""
    if isinstance(node, Mapping):
        children = {name: _build_nested(child, f"{key}.{name}") for name, child in node.items()}
        if "_target_" not in children:
            return children
        target = resolve(children.pop("_target_"), key)
        if children.pop("_partial_", False):
            from functools import partial

            return partial(target, **children)
        return target(**children)
    if isinstance(node, list):
        return [_build_nested(child, f"{key}[{index}]") for index, child in enumerate(node)]
    return node
