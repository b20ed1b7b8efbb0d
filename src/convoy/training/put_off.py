"""Puts off a library that the first training step waits for and no run uses: scipy.signal.

torchmetrics, which Lightning imports, looks whether scipy.signal still has the name `hamming`, for a package of audio
metrics. That takes a seventh of the time to the first step. Here the module stands with that name alone until another
is asked for; then it is loaded as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_NAME = "scipy.signal"


def put_off_scipy_signal() -> None:
    """From now on the import of scipy.signal takes no time. Does nothing where it is loaded already."""
    if _NAME not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Unloaded(ModuleType):
    """A module whose code has not run: what is asked for and isn't there lets it run."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        spec = self.__spec__
        self.__class__ = ModuleType  # type: ignore[assignment]
        assert spec is not None
        assert isinstance(spec.loader, _LaterLoader)
        spec.loader.inner.exec_module(self)
        return getattr(self, name)


class _LaterLoader(Loader):
    def __init__(self, inner: Loader) -> None:
        self.inner = inner

    def exec_module(self, module: ModuleType) -> None:
        module.__class__ = _Unloaded
        module.hamming = _hamming  # type: ignore[attr-defined]


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _NAME:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _LaterLoader(spec.loader)
        return spec


def _hamming(*given: Any, **named: Any) -> Any:
    from scipy.signal.windows import hamming  # type: ignore[import-untyped]

    return hamming(*given, **named)
