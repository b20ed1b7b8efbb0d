"""Cost of a candidate, and the constraints that it must satisfy before it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convoy.config.options import Options
from convoy.training import preflight


def costs_of(overrides: Sequence[str], options: Options) -> dict[str, int]:
    """Return parameters and MACs per image of a candidate's network.

    Raises:
        UserError: the config has faults, or its network can't be built or traced.
    """
    from convoy.planner.config_ledger import ledger_of

    ledger = ledger_of(preflight.read(overrides, options, to_run=False))
    return {"params": ledger.total("params"), "macs": ledger.total("macs")}


def refusal(
    constraints: Mapping[str, Any], overrides: Sequence[str], costs: Mapping[str, int], options: Options
) -> str | None:
    """Return the constraint that a candidate violates, as text; None if there is none.

    Args:
        constraints: of the study.
        overrides: of the candidate.
        costs: see `costs_of`.
        options: folders of the options.
    """
    for name, largest in constraints.items():
        if name in costs and costs[name] > largest:
            return f"{name} {costs[name]:,} > {largest:,.0f}"
    card = constraints.get("peak_memory")
    if card is None:
        return None
    from convoy.planner.memory_plan import predicted

    plan = predicted(preflight.read([*overrides, f"hardware={card}"], options, to_run=False))
    if plan.fits:
        return None
    needed = plan.interval_bytes[1] if plan.interval_bytes else plan.peak.reserved_bytes
    return f"peak memory {needed / 2**30:.1f} GiB does not fit {card}"
