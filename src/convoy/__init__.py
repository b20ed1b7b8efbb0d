"""Convoy: a declarative, YAML-driven training pipeline for convolutional networks.

The names below are imported when they are first used, so that `import convoy` imports neither torch nor Hydra
(docs/api.md).
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # type checkers take it for true; importing typing would take most of the time of this import
if TYPE_CHECKING:
    from typing import Any

    from convoy.api.composition import compose as compose
    from convoy.api.ledgers import ledger as ledger
    from convoy.api.plans import plan as plan
    from convoy.api.plans import plans as plans
    from convoy.api.run_object import Run as Run
    from convoy.api.run_object import RunError as RunError
    from convoy.api.run_object import open_run as open_run
    from convoy.api.run_object import train as train
    from convoy.config.faults import UserError as UserError
    from convoy.ledger.ledger_object import Ledger as Ledger
    from convoy.planner.memory_plan import Plan as Plan
    from convoy.planner.plan_list import Plans as Plans

__version__ = "0.1.0"

_MODULES = {
    "compose": "api.composition",
    "Ledger": "ledger.ledger_object",
    "open_run": "api.run_object",
    "plan": "api.plans",
    "Plan": "planner.memory_plan",
    "plans": "api.plans",
    "Plans": "planner.plan_list",
    "Run": "api.run_object",
    "RunError": "api.run_object",
    "train": "api.run_object",
    "UserError": "config.faults",
}
"""Module of each name."""

__all__ = [
    "Ledger",
    "Plan",
    "Plans",
    "Run",
    "RunError",
    "UserError",
    "compose",
    "ledger",
    "open_run",
    "plan",
    "plans",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "ledger":  # the package, which can be called
        return import_module("convoy.ledger")
    if name not in _MODULES:
        raise AttributeError(f"module 'convoy' has no attribute '{name}'")
    value = getattr(import_module(f"convoy.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
