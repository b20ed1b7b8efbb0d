"""Cost of a candidate, and the constraints that it must satisfy before it is trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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


def further_costs(
    names: Collection[str], card: str | None, overrides: Sequence[str], options: Options
) -> dict[str, float]:
    """Return the costs of a candidate that take longer to find, as far as they are needed.

    Args:
        names: costs that are needed, of which only `peak_memory` and `latency_ms` are found here.
        card: for which the peak memory is predicted; None for the hardware of the overrides.
        overrides: of the candidate.
        options: folders of the options.

    Raises:
        UserError: the config has faults, its network can't be built or traced, or its hardware is no card.
    """
    found: dict[str, float] = {}
    if "latency_ms" in names:
        from convoy.search.latency import latency_ms

        found["latency_ms"] = latency_ms(preflight.read(overrides, options, to_run=False))
    if "peak_memory" in names:
        from convoy.planner.memory_plan import predicted

        words = [*overrides, f"hardware={card}"] if card is not None else overrides
        found["peak_memory"] = predicted(preflight.read(words, options, to_run=False)).peak.reserved_bytes
    return found


def refusal(
    constraints: Mapping[str, Any], overrides: Sequence[str], costs: Mapping[str, float], options: Options
) -> str | None:
    """Return the constraint that a candidate violates, as text; None if there is none.

    Args:
        constraints: of the study.
        overrides: of the candidate.
        costs: see `costs_of` and `further_costs`.
        options: folders of the options.
    """
    for name, largest in constraints.items():
        if name != "peak_memory" and name in costs and costs[name] > largest:
            return f"{name} {cost_text(name, costs[name])} > {cost_text(name, largest)}"
    card = constraints.get("peak_memory")
    if card is None:
        return None
    from convoy.planner.memory_plan import predicted

    plan = predicted(preflight.read([*overrides, f"hardware={card}"], options, to_run=False))
    if plan.fits:
        return None
    needed = plan.interval_bytes[1] if plan.interval_bytes else plan.peak.reserved_bytes
    return f"peak memory {needed / 2**30:.1f} GiB does not fit {card}"


def cost_text(name: str, value: float | None) -> str:
    """Return a cost for people: bytes in MiB, others as numbers."""
    if value is None:
        return "–"
    if name == "peak_memory":
        return f"{value / 2**20:,.0f} MiB"
    return f"{value:.4g}" if name == "latency_ms" else f"{value:,.0f}"
