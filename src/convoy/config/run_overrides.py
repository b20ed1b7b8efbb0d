"""Keys that may be overridden when a run, a sweep or a study is used again, or when no run is started."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from convoy.config.faults import Fault, UserError, did_you_mean

RUN_OVERRIDES = ("data", "trainer", "hardware", "seed")
"""Groups with overrides that may change."""

_OTHER_RUN = ("model", "task", "loss", "optimizer", "scheduler", "experiment", "resume", "folder", "name")


def fixed_fault(key: str, value: str | None, verb: str) -> Fault | None:
    """Return the fault of a key that belongs to the trained run; None for another key."""
    if key.split(".")[0] not in _OTHER_RUN:
        return None
    remedy = "override data, trainer or hardware only; use another run for another model"
    return Fault(key, f"can't be changed by {verb}", remedy, value)


def run_key_faults(overrides: Sequence[str], what: str) -> list[Fault]:
    """Return the faults of keys that only apply to a run, where none is started.

    Args:
        overrides: overrides of the command line.
        what: what is made instead, such as "the planner".
    """
    words = (text.partition("=") for text in overrides)
    return [
        Fault(key, f"applies to a run; {what} starts none", f"omit {key}", value)
        for key, sign, value in words
        if key in ("resume", "folder") and sign
    ]


def must_be_typed(text: str) -> bool:
    """Return whether an override names code, or reads the environment."""
    return "_target_" in text or "${" in text


def check_typed_again(known: Collection[str], typed: Sequence[str], what: str, file: str) -> None:
    """Check the overrides with which a sweep or a study is resumed.

    Its record is data like a run's config: the targets in it must be typed again, and it can't read the environment.

    Args:
        known: overrides in the record.
        typed: overrides of the command line.
        what: "sweep" or "study".
        file: name of the record.

    Raises:
        UserError: if an override is not in the record, or must be typed again.
    """
    faults: dict[Fault, None] = {}
    for text in typed:
        if text not in known and not text.startswith("resume="):
            rule, remedy = f"is not part of the {what}, which keeps its overrides", f"omit it, or start a new {what}"
            faults[Fault(text.partition("=")[0], rule, remedy)] = None
    for text in known:
        if text not in typed and must_be_typed(text):
            rule = f"is in {file} only, which is data"
            faults[Fault(text.partition("=")[0], rule, f"if you trust it, type it again: {text}")] = None
    if faults:
        raise UserError(*faults)


def check_run_overrides(overrides: Sequence[str], verb: str) -> None:
    """Raise if overrides change more than `RUN_OVERRIDES`.

    Raises:
        UserError: with the fault of each such override.
    """
    faults = []
    for text in overrides:
        key, sign, value = text.partition("=")
        if key.split(".")[0] not in RUN_OVERRIDES:
            other = did_you_mean(key, RUN_OVERRIDES, f"overrides of {', '.join(RUN_OVERRIDES)}")
            given = value if sign else None
            faults.append(fixed_fault(key, given, verb) or Fault(key, f"{verb} has no such key", other, given))
    if faults:
        raise UserError(*faults)
