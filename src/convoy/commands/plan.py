"""convoy plan: peak GPU memory of a training, and the largest micro batch size that fits a card."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from convoy.commands.verb import Call, Verb
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.options import Options
from convoy.config.schema import Config
from convoy.planner.calibration import Calibration, calibration_of
from convoy.training import preflight


@dataclass(frozen=True)
class PlanArguments(Verb):
    """Predict the peak GPU memory of a training.

    Also predicts the largest micro batch size that fits the card. Neither data
    nor weights nor a GPU are needed. hardware=* prints one line per card,
    hardware=v100,a40 the lines of these two. See docs/planner.md.

      convoy plan model=resnet50 data=imagenet optimizer=sgd hardware=v100
      convoy plan model=vgg16 data=imagenet 'hardware=*'
      convoy plan model=vgg16 data=imagenet hardware.usable_bytes=16000000000 \\
          hardware.context_bytes=500000000 format=json
    """

    format: Literal["terminal", "json"] = "terminal"
    """Format of the prediction; json has sizes in bytes, and a list for several
    cards."""

    overrides = None
    checks_config = True
    instead_of_multirun = "name several cards with hardware=v100,a40"


ARGUMENTS = PlanArguments


def run(given: PlanArguments, call: Call) -> int:
    """Print a prediction, or one per card."""
    cards = _cards(call)
    if cards is not None:
        return _several(given, call, cards)
    config = _config(call.overrides, call.options)
    # Imported here, since torch takes seconds to import.
    from convoy.ledger.ledger_table import console, printed
    from convoy.optim.build_optimizer import check_targets
    from convoy.planner.memory_plan import predicted
    from convoy.planner.plan_table import rendered

    check_targets(config)
    plan = predicted(config, _calibration(config, call.overrides))
    if given.format == "json":
        print(json.dumps(plan.as_data(), indent=2))
    else:
        sys.stdout.write(printed(rendered(plan), console()))
    return 0


def _cards(call: Call) -> list[str] | None:
    """Return the cards if several are given, or None for one.

    Raises:
        UserError: if there is no such card, or a key does not apply to a plan.
    """
    found, faults = None, []
    for key, sign, value in (text.partition("=") for text in call.overrides):
        if key in ("resume", "folder") and sign:
            faults.append(Fault(key, "applies to a run; the planner starts none", f"omit {key}", value))
        if key == "hardware" and ("," in value or value == "*"):
            found = cards(call.options) if value == "*" else value.split(",")
            faults += _unknown(found, call.options)
    if faults:
        raise UserError(*faults)
    return found


def _several(given: PlanArguments, call: Call, names: Sequence[str]) -> int:
    """Print one line per card. A fault of a single card, such as an unsupported precision, is printed in its line."""
    configs: dict[str, Config | UserError] = {}
    for card in names:
        try:
            configs[card] = _config(_with_card(call.overrides, card), call.options)
        except UserError as error:
            configs[card] = error
    able = [config for config in configs.values() if isinstance(config, Config)]
    if not able:
        raise UserError(
            *dict.fromkeys(fault for one in configs.values() if isinstance(one, UserError) for fault in one.faults)
        )
    from convoy.ledger.ledger_table import console, printed
    from convoy.optim.build_optimizer import check_targets
    from convoy.planner.memory_plan import Plan, Planner
    from convoy.planner.plan_table import table

    check_targets(able[0])
    planner = Planner(able[0])
    rows: list[tuple[str, Plan | UserError]] = [
        (card, planner.plan(one.hardware, _calibration(one, call.overrides)) if isinstance(one, Config) else one)
        for card, one in configs.items()
    ]
    if given.format == "json":
        print(json.dumps([_row(card, plan) for card, plan in rows], indent=2))
    else:
        sys.stdout.write(printed(table(rows), console()))
    return 0


def _row(card: str, plan: object) -> dict[str, object]:
    from convoy.planner.memory_plan import Plan

    return plan.as_data() if isinstance(plan, Plan) else {"hardware": card, "refused": str(plan)}


def _config(words: Sequence[str], options: Options) -> Config:
    config = preflight.read(words, options, to_run=False)
    faults = []
    if config.trainer.compile:
        rule = "changes the memory of a training unpredictably"
        faults.append(
            Fault("trainer.compile", rule, "plan with trainer.compile=false", str(config.trainer.compile).lower())
        )
    if config.hardware.usable_bytes is not None and config.hardware.context_bytes is None:
        rule = "is required with hardware.usable_bytes"
        faults.append(
            Fault("hardware.context_bytes", rule, "write the memory of the CUDA context, such as 500000000", "null")
        )
    if faults:
        raise UserError(*faults)
    return config


def _calibration(config: Config, words: Sequence[str]) -> Calibration:
    """Return the calibration of the card, unless its memory was given on the command line."""
    if any(word.startswith(("hardware.usable_bytes=", "hardware.context_bytes=")) for word in words):
        return Calibration()
    return calibration_of(config.output_root, config.hardware.name)


def _with_card(overrides: Sequence[str], card: str) -> list[str]:
    return [f"hardware={card}" if word.startswith("hardware=") else word for word in overrides]


def _unknown(names: Sequence[str], options: Options) -> list[Fault]:
    there = options.of("hardware")
    listed = f"one of {', '.join(there)}"
    return [
        Fault("hardware", "no such option", did_you_mean(name, there, listed), name)
        for name in names
        if name not in there
    ]


def cards(options: Options) -> list[str]:
    """Return the options of hardware that describe one card, which have an architecture."""
    from omegaconf import OmegaConf

    found = []
    for name in options.of("hardware"):
        for folder in options.folders:
            path = folder / "hardware" / f"{name}.yaml"
            if path.is_file() and "architecture" in OmegaConf.load(path):
                found.append(name)
    return found
