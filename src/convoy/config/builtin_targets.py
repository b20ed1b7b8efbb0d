"""Targets that are allowed in saved data even if the user didn't write them.

A built-in target is a public class or function that is defined in a package of its group and has the type of the
group. The object of the dotted path is checked, not the text: `torch.nn.modules.module.torch.load` begins with an
allowed package but is `torch.serialization.load`.

Convoy's own functions (`convoy.models.libraries.timm_model`, `convoy.optim.schedules.cosine`, …) aren't listed here.
The options in `conf/` name them, which declares them (see `trust`).
"""

from __future__ import annotations

import importlib
import inspect
import sys
from types import FunctionType, ModuleType
from typing import Any

PACKAGES: dict[str, tuple[str, ...]] = {
    "model": ("convoy.models", "torchvision.models", "timm.models", "timm.layers", "torch.nn"),
    "optimizer": ("torch.optim", "timm.optim"),
    "scheduler": ("torch.optim.lr_scheduler", "timm.scheduler"),
    "data": ("torchvision.transforms.v2",),
    "loss": ("torch.nn", "timm.loss"),
    "metric": (
        "torchmetrics.classification",
        "torchmetrics.regression",
        "torchmetrics.segmentation",
        "torchmetrics.detection",
    ),
    "callback": ("pytorch_lightning.callbacks", "convoy.search.pruning", "convoy.search.architecture.weight_sharing"),
    "logger": ("pytorch_lightning.loggers",),
}
"""Packages in which a target of each group must be defined."""

KINDS: dict[str, tuple[str, ...]] = {
    "model": ("torch.nn.modules.module.Module",),
    "optimizer": ("torch.optim.optimizer.Optimizer",),
    "scheduler": ("torch.optim.lr_scheduler.LRScheduler", "timm.scheduler.scheduler.Scheduler"),
    "data": ("torchvision.transforms.v2._transform.Transform",),
    "loss": ("torch.nn.modules.module.Module",),
    "metric": ("torchmetrics.metric.Metric",),
    "callback": ("pytorch_lightning.callbacks.callback.Callback",),
    "logger": ("pytorch_lightning.loggers.logger.Logger",),
}
"""Full names of the base classes per group; a target must inherit from one of them."""


def is_spelled_like_one(group: str, target: str) -> bool:
    """Return whether a dotted path could lead to a built-in target. Imports nothing."""
    *module, _ = parts = target.split(".")
    if not module or not all(part.isidentifier() and not part.startswith("_") for part in parts):
        return False
    # torchmetrics.Accuracy is defined in torchmetrics.classification: a parent of an allowed package may export it.
    name = ".".join(module)
    return any(_is_inside(name, package) or _is_inside(package, name) for package in PACKAGES.get(group, ()))


def find(group: str, target: str) -> Any:
    """Return the built-in class or function at a dotted path, or None if there is none.

    Imports modules of the packages of `group` and their parents, and no others.
    """
    if not is_spelled_like_one(group, target):
        return None
    found = _walk(target.split("."))
    if found is None or not _is_defined_in(found, PACKAGES[group]):
        return None
    if inspect.isclass(found):
        names = {f"{base.__module__}.{base.__qualname__}" for base in inspect.getmro(found)}
        return found if names.intersection(KINDS[group]) else None
    return found if group == "model" and _is_torchvision_builder(found) else None


def _is_inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _walk(parts: list[str]) -> Any:
    """Return the object at a path if each module is a submodule of the previous one, else None."""
    path = parts[0]
    try:
        found: Any = importlib.import_module(path)
        for part in parts[1:]:
            parent, path = found, f"{path}.{part}"
            if not hasattr(parent, part):
                found = importlib.import_module(path)
                continue
            found = getattr(parent, part)
            # An imported module is an attribute of the importing module and has the same syntax as a submodule.
            if isinstance(found, ModuleType) and found.__name__ != path:
                return None
    except ImportError:
        return None
    return found


def _is_defined_in(found: Any, packages: tuple[str, ...]) -> bool:
    """Return whether an object is a public class or function found under its name in the module that defines it."""
    if not isinstance(found, (type, FunctionType)):
        return False
    names = found.__qualname__.split(".")
    if any(name.startswith(("_", "<")) for name in names):
        return False
    if not any(_is_inside(found.__module__, package) for package in packages):
        return False
    there: Any = sys.modules.get(found.__module__)
    for name in names:
        there = getattr(there, name, None)
    return there is found


def _is_torchvision_builder(found: Any) -> bool:
    """Return whether torchvision has registered a function as the builder of a model.

    timm's builders are excluded, since they accept arguments that load files (pretrained_cfg, checkpoint_path), in
    some versions with pickle. The option `timm` builds the same models.
    """
    from torchvision import models

    return found in (models.get_model_builder(name) for name in models.list_models(module=models))
