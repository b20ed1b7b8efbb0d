"""Check before queueing that a training fits the requested GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from convoy.config.faults import Fault, UserError
from convoy.config.schema import Config
from convoy.planner.calibration import calibration_of

_NO_MATTER = ("seed", "name", "tags", "logger", "scheduler", "cluster", "output_root", "folder", "ledger")
_NO_MATTER_OF_OPTIMIZER = ("lr", "weight_decay", "momentum_decay", "eps")


def memory_lines(configs: Sequence[Config]) -> list[str]:
    """Return one line per training with different memory: its predicted peak and the card's memory.

    Raises:
        UserError: if some don't fit, unless plan.force=true.
    """
    # Imported here, since torch takes seconds to import.
    lines: list[str] = []
    faults: list[Fault] = []
    for config in _that_differ(configs):
        if config.hardware.usable_bytes is None or config.hardware.accelerator == "cpu":
            continue
        if config.trainer.compile:
            lines.append("memory  not predicted: trainer.compile changes it unpredictably")
            continue
        line, fault = _of(config)
        lines.append(line)
        faults += [fault] if fault is not None and not config.plan.force else []
    if faults:
        raise UserError(*faults)
    return lines


def _of(config: Config) -> tuple[str, Fault | None]:
    from convoy.ledger.rows import UntraceableError
    from convoy.planner.memory_plan import predicted
    from convoy.planner.plan_table import gib, needed, remedy

    name = config.hardware.name
    try:
        plan = predicted(config, calibration_of(config.output_root, name))
    except UserError as error:
        if isinstance(error.__cause__, UntraceableError):
            return f"memory  not predicted: {error}", None
        raise
    figures = f"{needed(plan)} of {gib(plan.usable_bytes)}"
    known = "predicted" if plan.calibrated else "predicted, not calibrated"
    batch = f"{plan.model}, micro batch {plan.sizes.micro_batch_size}"
    line = f"memory  {figures} on {name} ({known}): {batch}"
    if plan.fits is not False:
        return line, None
    takes = f"is predicted to take {needed(plan)}"
    rule = f"has {gib(plan.usable_bytes)}, and {batch} in {plan.precision} {takes}"
    other = "'convoy plan hardware=*' shows every card; plan.force=true queues the job anyway"
    return line, Fault("hardware", rule, f"{remedy(plan)}; {other}", name)


def _that_differ(configs: Sequence[Config]) -> list[Config]:
    """Return one config of each set with the same memory."""
    kinds: dict[str, Config] = {}
    for config in configs:
        content = asdict(config)
        for key in _NO_MATTER:
            del content[key]
        content["optimizer"] = {
            name: value for name, value in content["optimizer"].items() if name not in _NO_MATTER_OF_OPTIMIZER
        }
        kinds.setdefault(repr(content), config)
    return list(kinds.values())
