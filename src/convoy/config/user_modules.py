"""Import of declared targets: the user's own modules, and installed ones.

While a user's module is imported, the working folder and the parents of the config folders come first on `sys.path`,
as a script's folder does. Afterwards they are removed again: a module that imports another module of the same folder
must do so at its top, not inside a function.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.options import PACKAGE

LIBRARIES = ("convoy", "torch", "torchvision", "timm", "torchmetrics", "pytorch_lightning")
"""Packages that are imported from the installation even if the user's folders have modules of the same names."""


def import_target(target: str, key: str, folders: Sequence[Path]) -> Any:
    """Return the class or function at a dotted path.

    Args:
        target: dotted path such as `mynet.MyNet`.
        key: key in the config, for errors.
        folders: folders that are searched for modules before the installed packages.

    Raises:
        UserError: if there is no such module, it can't be imported, or it has no such class or function.
    """
    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise UserError(Fault(key, "is not the dotted path of a class or function", "write module.Class", target))
    folders = [] if parts[0] in LIBRARIES else folders
    for length in range(len(parts) - 1, 0, -1):
        module = _imported(".".join(parts[:length]), key, target, folders)
        if module is not None:
            return _attribute(module, parts[length:], key, target, folders)
    near = did_you_mean(parts[0], [path.stem for folder in folders for path in folder.glob("*.py")])
    searched = ", ".join(str(folder) for folder in folders)
    rule = f"no module {parts[0]}" + (f" in {searched}, nor among the installed packages" if searched else "")
    remedy = near or (f"create {parts[0]}.py there, or correct the name" if searched else "install it")
    raise UserError(Fault(key, rule, remedy, target))


def location(error: BaseException, folders: Sequence[Path]) -> str:
    """Return `file.py, line 3` of the innermost line of the user's code that led to an error, or an empty text."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}, line {error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        is_own = "site-packages" not in path.parts and not path.is_relative_to(PACKAGE)
        if is_own and any(path.is_relative_to(folder) for folder in folders):
            return f"{path.name}, line {frame.lineno}"
    return ""


def described(error: BaseException, folders: Sequence[Path]) -> str:
    """Return type, message and line of an error raised by user code, on one line."""
    where = location(error, folders)
    message = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}{f': {message}' if message else ''}{f'; {where}' if where else ''}"


def _imported(name: str, key: str, target: str, folders: Sequence[Path]) -> ModuleType | None:
    """Return a module, or None if there is none of that name."""
    try:
        with _first_on_path(folders):
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a user's module can raise any exception during its import
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (name == missing or name.startswith(f"{missing}.")):
            return None
        rule = f"module {name} can't be imported ({described(error, folders)})"
        remedy = f"install {missing}, or correct the import" if missing else "correct the module"
        raise UserError(Fault(key, rule, remedy, target)) from error


def _attribute(module: ModuleType, names: Sequence[str], key: str, target: str, folders: Sequence[Path]) -> Any:
    found: Any = module
    for name in names:
        if not hasattr(found, name):
            raise UserError(Fault(key, *_missing(module, found, name, folders), target))
        found = getattr(found, name)
    if not callable(found):
        rule = "is a module" if isinstance(found, ModuleType) else f"is of type {type(found).__name__}"
        raise UserError(Fault(key, f"{rule}, not a class or function", "name one", target))
    return found


def _missing(module: ModuleType, owner: Any, name: str, folders: Sequence[Path]) -> tuple[str, str]:
    """Return rule and remedy for a name that a module or class does not have."""
    file = getattr(module, "__file__", None) or "built into Python"
    shadowed = [path for folder in folders if (path := folder / f"{module.__name__}.py").is_file()]
    if shadowed and str(shadowed[0]) != file:
        return f"{module.__name__} is another module, {file}", f"rename {shadowed[0]}"
    known = [known for known in dir(owner) if not known.startswith("_")]
    where = f"{owner.__name__} ({file})" if owner is module else str(getattr(owner, "__qualname__", owner))
    own = [known for known in known if getattr(getattr(owner, known), "__module__", None) == module.__name__]
    return f"{where} has no {name}", did_you_mean(name, known, f"it has {', '.join(own)}" if own else "")


@contextmanager
def _first_on_path(folders: Sequence[Path]) -> Iterator[None]:
    """Put `folders` first on sys.path within the context."""
    importlib.invalidate_caches()  # a module may be newer than Python's cached listing of its folder
    before = list(sys.path)
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        yield
    finally:
        sys.path[:] = before
