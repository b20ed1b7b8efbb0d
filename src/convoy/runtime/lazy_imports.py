"""Import hook that defers scipy.signal and matplotlib, which delay the first training step and which no run uses.

torchmetrics, which Lightning imports, checks if scipy.signal has the attribute `hamming`, for a package of audio
metrics. That import takes a seventh of the time to the first step. With the hook, the module has that attribute only,
and is loaded completely when another attribute is accessed.

torchmetrics also imports matplotlib, if it is installed, to annotate its metrics' `plot` methods. With the hook,
torchmetrics treats matplotlib as not installed, so that its metrics can't plot. Other imports of matplotlib work.
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
"""Module in which torchmetrics records the installed packages."""


def defer_unused() -> None:
    """Install the import hook; modules that are loaded already are not affected."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Unloaded(ModuleType):
    """Module whose code runs when a missing attribute is accessed."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":
            raise AttributeError(name)
        spec = self.__spec__
        self.__class__ = ModuleType  # type: ignore[assignment]
        assert spec is not None
        assert isinstance(spec.loader, _DeferringLoader)
        spec.loader.inner.exec_module(self)
        return getattr(self, name)


class _DeferringLoader(Loader):
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


_LOADERS: dict[str, type[_DeferringLoader | _PlotlessLoader]] = {
    _SIGNAL: _DeferringLoader,
    _TORCHMETRICS: _PlotlessLoader,
}


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
