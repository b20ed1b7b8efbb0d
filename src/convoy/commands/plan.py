"""convoy plan: the peak GPU memory of a training, whether it fits a card, and the largest micro batch that does."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from convoy.commands import arguments
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.options import Options
from convoy.config.schema import Config
from convoy.planner.calibration import Calibration, calibration_of
from convoy.training import preflight

FORMATS = ("terminal", "json")

_HELP = """\
usage: convoy plan [group=option ...] [key=value ...] [--format terminal|json]

  convoy plan model=resnet50 data=imagenet optimizer=sgd hardware=v100
  convoy plan model=vgg16 data=imagenet 'hardware=*'
  convoy plan model=vgg16 data=imagenet hardware.usable_bytes=16000000000 \\
      hardware.context_bytes=500000000 --format json

Predicts the peak memory of a training on a GPU, whether it fits, and the
largest micro batch that does. Overrides are those of convoy train. Neither
data nor weights nor a GPU are needed.

  hardware=*    every card, a line each; hardware=v100,a40 these
  --format json the same for programs, in bytes; with several cards a list
  --config-dir  a folder of your own options, laid out like conf/

docs/planner.md tells what is counted and how exact it was found to be."""


@dataclass
class _Asked:
    """The flags of this verb, and the words of the config."""

    format: str = "terminal"
    cards: list[str] | None = None
    words: list[str] = field(default_factory=list)

    def with_card(self, card: str) -> list[str]:
        return [f"hardware={card}" if word.startswith("hardware=") else word for word in self.words]


def run(words: Sequence[str]) -> int:
    """Print a prediction, or one a card."""
    parsed = arguments.parse(words)
    if parsed.help:
        print(_HELP)
        return 0
    asked = _read(parsed)
    if asked.cards is not None:
        return _several(asked, parsed.options)
    config = _config(asked.words, parsed.options)
    # From here on torch is needed, which takes seconds to import.
    from convoy.ledger.ledger_table import console, printed
    from convoy.optim.construction import check_targets
    from convoy.planner.memory_plan import predicted
    from convoy.planner.plan_table import rendered

    check_targets(config)
    plan = predicted(config, _calibration(config, asked.words))
    if asked.format == "json":
        print(json.dumps(plan.as_data(), indent=2))
    else:
        sys.stdout.write(printed(rendered(plan), console()))
    return 0


def _several(asked: _Asked, options: Options) -> int:
    """A line a card. What only one of them refuses, such as a precision that it hasn't, is told in its line."""
    configs: dict[str, Config | UserError] = {}
    for card in asked.cards or []:
        try:
            configs[card] = _config(asked.with_card(card), options)
        except UserError as error:
            configs[card] = error
    able = [config for config in configs.values() if isinstance(config, Config)]
    if not able:
        raise UserError(
            *dict.fromkeys(fault for one in configs.values() if isinstance(one, UserError) for fault in one.faults)
        )
    from convoy.ledger.ledger_table import console, printed
    from convoy.optim.construction import check_targets
    from convoy.planner.memory_plan import Plan, Planner
    from convoy.planner.plan_table import table

    check_targets(able[0])
    planner = Planner(able[0])
    rows: list[tuple[str, Plan | UserError]] = [
        (card, planner.plan(one.hardware, _calibration(one, asked.words)) if isinstance(one, Config) else one)
        for card, one in configs.items()
    ]
    if asked.format == "json":
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
        rule = "changes what a training keeps in ways that can't be predicted"
        faults.append(Fault("trainer.compile", rule, "plan with trainer.compile=false", "true"))
    if config.hardware.usable_bytes is not None and config.hardware.context_bytes is None:
        rule = "is needed beside hardware.usable_bytes"
        faults.append(
            Fault("hardware.context_bytes", rule, "write what CUDA's context takes, such as 500000000", "null")
        )
    if faults:
        raise UserError(*faults)
    return config


def _calibration(config: Config, words: Sequence[str]) -> Calibration:
    """What was measured of the card, unless its memory was typed."""
    if any(word.startswith(("hardware.usable_bytes=", "hardware.context_bytes=")) for word in words):
        return Calibration()
    return calibration_of(config.output_root, config.hardware.name)


def _read(parsed: arguments.Arguments) -> _Asked:
    asked, faults, rest = _Asked(), [], list(parsed.overrides)
    while rest:
        flag, sign, value = rest.pop(0).partition("=")
        if flag == "--format":
            asked.format = value if sign else rest.pop(0) if rest else ""
        elif flag in ("resume", "folder"):
            faults.append(Fault(flag, "is a run's, and the planner runs nothing", "leave it out", value))
        else:
            asked.words.append(flag + sign + value)
            if flag == "hardware" and ("," in value or value == "*"):
                asked.cards = cards(parsed.options) if value == "*" else value.split(",")
                faults += _unknown(asked.cards, parsed.options)
    if asked.format not in FORMATS:
        near = did_you_mean(asked.format, FORMATS, f"one of {', '.join(FORMATS)}")
        faults.append(Fault("--format", "no such format", near, asked.format))
    if parsed.multirun:
        faults.append(Fault("--multirun", "is convoy train's", "name several cards with hardware=v100,a40"))
    if parsed.cfg:
        faults.append(Fault("--cfg", "is convoy train's", "convoy train --cfg job shows the config"))
    if faults:
        raise UserError(*faults)
    return asked


def _unknown(names: Sequence[str], options: Options) -> list[Fault]:
    there = options.of("hardware")
    listed = f"one of {', '.join(there)}"
    return [
        Fault("hardware", "no such option", did_you_mean(name, there, listed), name)
        for name in names
        if name not in there
    ]


def cards(options: Options) -> list[str]:
    """The options of hardware that are one card: those that name an architecture."""
    from omegaconf import OmegaConf

    found = []
    for name in options.of("hardware"):
        for folder in options.folders:
            path = folder / "hardware" / f"{name}.yaml"
            if path.is_file() and "architecture" in OmegaConf.load(path):
                found.append(name)
    return found
