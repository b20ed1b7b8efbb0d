"""Parameters and memory per layer. The package can be called: `convoy.ledger(network, (3, 224, 224))`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convoy.ledger.ledger_object import Ledger


class _CallablePackage(ModuleType):
    """This package as the function `ledger` of the Python API, which has the same name."""

    def __call__(self, *given: Any, **named: Any) -> Ledger:
        """Return the ledger of a network. See `convoy.ledger.module_ledger.ledger`."""
        from convoy.ledger.module_ledger import ledger

        return ledger(*given, **named)


sys.modules[__name__].__class__ = _CallablePackage
