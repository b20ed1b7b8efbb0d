"""Parameters and memory per layer.

The package can be called: `convoy.ledger(network, (3, 224, 224))` or `convoy.ledger("model=vgg16", "data=imagenet")`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convoy.ledger.ledger_object import Ledger


class _CallablePackage(ModuleType):
    """This package as the function `ledger` of the Python API, which has the same name."""

    def __call__(self, *given: Any, **named: Any) -> Ledger:
        """Return the ledger of a network or of a command line. See `convoy.api.ledgers.ledger`."""
        # By name: as a function, the package is part of the API, which imports it.
        found: Ledger = import_module("convoy.api.ledgers").ledger(*given, **named)
        return found


sys.modules[__name__].__class__ = _CallablePackage
