"""Puts off libraries that the first training step waits for and no run uses: scipy.signal and matplotlib.

torchmetrics, which Lightning imports, looks whether scipy.signal still has the name `hamming`, for a package of audio
metrics. That takes a seventh of the time to the first step. Here the module stands with that name alone until another
is asked for; then it is loaded as ever.

It also imports matplotlib where that is installed, to name the types of what its metrics' `plot` gives. Here it finds
matplotlib not installed: its metrics then can't plot, which nothing in Convoy asks of them. Whoever imports matplotlib
itself gets it as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_SIGNAL = "scipy.signal"
_TORCHMETRICS = "torchmetrics.utilities.imports"
"""Where torchmetrics keeps what is installed."""


def put_off_unused() -> None:
    """From now on scipy.signal and torchmetrics' plots take no time to import. What is loaded already stays."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
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


class _PlotlessLoader(Loader):
    def __init__(self, inner: Loader) -> None:
        self._inner = inner

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        module._MATPLOTLIB_AVAILABLE = False  # type: ignore[attr-defined]


_LOADERS: dict[str, type[_LaterLoader | _PlotlessLoader]] = {_SIGNAL: _LaterLoader, _TORCHMETRICS: _PlotlessLoader}


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _LOADERS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _LOADERS[fullname](spec.loader)
        return spec


def _hamming(*given: Any, **named: Any) -> Any:
    from scipy.signal.windows import hamming  # type: ignore[import-untyped]

    return hamming(*given, **named)
