"""convoy plan: the peak GPU memory of a training, whether it fits a card, and the largest micro batch that does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from convoy.commands import arguments
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.training import preflight

FORMATS = ("terminal", "json")

_HELP = """\
usage: convoy plan [group=option ...] [key=value ...] [--format terminal|json]

  convoy plan model=resnet50 data=imagenet optimizer=sgd hardware=v100
  convoy plan model=vgg16 data=imagenet hardware.usable_bytes=16000000000 \\
      hardware.context_bytes=500000000 --format json

Predicts the peak memory of a training on a GPU without data, weights or a GPU.
Overrides are those of convoy train. cuDNN's workspace and NCCL's buffers are
not known and not counted; trainer.compile can't be predicted."""


def run(words: Sequence[str]) -> int:
    """Print a prediction."""
    parsed = arguments.parse(words)
    if parsed.help:
        print(_HELP)
        return 0
    overrides, form = _sorted(parsed.overrides)
    config = preflight.read(overrides, parsed.options, to_run=False)
    if config.trainer.compile:
        raise UserError(Fault("trainer.compile", "can't be predicted", "plan with trainer.compile=false", "true"))
    hardware = config.hardware
    if hardware.accelerator == "cpu":
        raise UserError(Fault("hardware", "has no GPU memory to plan", "name a card", hardware.name))
    if hardware.usable_bytes is not None and hardware.context_bytes is None:
        raise UserError(Fault("hardware.context_bytes", "is needed beside usable_bytes", "write it in bytes", "null"))
    # From here on torch is needed, which takes seconds to import.
    from convoy.planner.predict import predicted

    preflight.check_targets(config)
    plan = predicted(config)
    print(json.dumps(plan, indent=2) if form == "json" else _text(plan))
    return 0


def _sorted(words: Sequence[str]) -> tuple[list[str], str]:
    overrides, form, rest = [], "terminal", list(words)
    while rest:
        flag, sign, value = rest.pop(0).partition("=")
        if flag == "--format":
            form = value if sign else rest.pop(0) if rest else ""
        else:
            overrides.append(flag + sign + value)
    if form not in FORMATS:
        near = did_you_mean(form, FORMATS, "one of terminal, json")
        raise UserError(Fault("--format", "no such format", near, form))
    return overrides, form


def _text(plan: dict[str, Any]) -> str:
    lines = [f"{plan['model']}, {plan['precision']}, micro batch {plan['micro_batch_size']}, on {plan['hardware']}"]
    lines += [f"  {name:<18}{_gib(size):>10}" for name, size in plan["categories"].items()]
    lines.append(f"peak allocated {_gib(plan['peak_allocated_bytes'])}, in {plan['at']}")
    lines.append(f"peak reserved  {_gib(plan['peak_reserved_bytes'])}")
    if plan["fits"] is None:
        lines.append("The card's memory is not known: name one with hardware=…")
    else:
        verdict = f"fits, {_gib(plan['slack_bytes'])} to spare" if plan["fits"] else "does not fit"
        lines.append(f"{verdict}; the largest micro batch that fits is {plan['largest_micro_batch']}")
    return "\n".join(lines)


def _gib(size: int | None) -> str:
    return "not known" if size is None else f"{size / 2**30:.2f} GiB"
