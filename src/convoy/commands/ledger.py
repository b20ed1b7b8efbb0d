"""convoy ledger: memory and parameters layer by layer, and of several models side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convoy.commands import arguments
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.options import Options
from convoy.config.schema import Config
from convoy.config.sweep_points import points, varied
from convoy.training import preflight

if TYPE_CHECKING:
    from convoy.ledger.rows import Ledger

FORMATS = ("terminal", "csv", "json", "md", "html")

_HELP = """\
usage: convoy ledger [group=option ...] [key=value ...] [--format F] [--compare]

  convoy ledger model=vgg16 data=imagenet
  convoy ledger model=resnet50 data=imagenet trainer.precision=bf16-mixed
  convoy ledger model=vgg16 data=imagenet --format html > vgg16.html
  convoy ledger model=vgg16,resnet50,mobilenet_v2 data=imagenet --compare

Prints memory and parameters layer by layer, and what training keeps. Overrides
are those of convoy train. Neither data nor weights nor a GPU are needed.

  --format    terminal (as wide as it is), csv, json, md or html
  --compare   the totals of each combination of the values given with commas,
              side by side; terminal, csv, json or md
  --config-dir  a folder of your own options, laid out like conf/

docs/ledger.md tells how to read it."""


_DATA_HINT = "The images are those of data={}, as in convoy train; data=imagenet has 3x224x224 and 1,000 classes."


@dataclass
class Request:
    """What is asked for: in which format, whether a comparison, and of what."""

    format: str = "terminal"
    compare: bool = False
    overrides: list[str] = field(default_factory=list)


def run(words: Sequence[str]) -> int:
    """Print a ledger, or several side by side."""
    parsed = arguments.parse(words)
    if parsed.help:
        print(_HELP)
        return 0
    request, faults = read(parsed)
    combinations, wrong = _combinations(request)
    configs = _configs(combinations, parsed.options, faults + wrong)
    # From here on torch is needed, which takes seconds to import.
    from convoy.planner.config_ledger import ledger_of

    ledgers = [ledger_of(config) for config in configs]
    if request.compare:
        from convoy.ledger.totals_table import compared

        keys = varied(request.overrides)
        labels = [_label(combination, keys) for combination in combinations]
        sys.stdout.write(compared(labels, ledgers, request.format))
        return 0
    _print(request.format, ledgers[0])
    if request.format == "terminal" and not any(word.startswith(("data", "experiment")) for word in request.overrides):
        print(f"\n{_DATA_HINT.format(configs[0].data.name)}")
    return 0


def read(parsed: arguments.Arguments) -> tuple[Request, list[Fault]]:
    """Sort this verb's own flags from overrides; what is wrong with them is told with the overrides' faults."""
    request, faults = Request(), []
    rest = list(parsed.overrides)
    while rest:
        flag, sign, value = rest.pop(0).partition("=")
        if flag == "--compare":
            request.compare = True
        elif flag == "--format":
            request.format = value if sign else rest.pop(0) if rest else ""
        elif flag in ("resume", "folder"):
            faults.append(Fault(flag, "is a run's, and the ledger runs nothing", "leave it out", value))
        else:
            request.overrides.append(flag + sign + value)
    if request.format not in FORMATS:
        near = did_you_mean(request.format, FORMATS, f"one of {', '.join(FORMATS)}")
        faults.append(Fault("--format", "no such format", near, request.format))
    elif request.compare and request.format == "html":
        remedy = "write --format md, or one html a model"
        faults.append(Fault("--format", "--compare has no picture", remedy, request.format))
    for flag, wanted in (("--multirun", parsed.multirun), ("--cfg", parsed.cfg)):
        if wanted:
            remedy = "write --compare" if flag == "--multirun" else "convoy train --cfg job shows the config"
            faults.append(Fault(flag, "is convoy train's", remedy))
    return request, faults


def _combinations(request: Request) -> tuple[list[list[str]], list[Fault]]:
    """The command line of each ledger, and what is wrong with their number."""
    try:
        combinations = points(request.overrides)
    except UserError:
        if not request.compare:
            return [request.overrides], []
        rule = "compares several"
        return [request.overrides], [Fault("--compare", rule, "give them with commas, as in model=vgg16,resnet50")]
    if request.compare:
        return combinations, []
    several = ", ".join(varied(request.overrides))
    return combinations, [Fault(several, "has several values", "write --compare to see them side by side")]


def _configs(combinations: Sequence[Sequence[str]], options: Options, faults: Sequence[Fault]) -> list[Config]:
    """Each combination's config; every fault is told once."""
    found, configs = dict.fromkeys(faults), []
    for combination in combinations:
        try:
            configs.append(preflight.read(combination, options, to_run=False))
        except UserError as error:
            found.update(dict.fromkeys(error.faults))
    if found:
        raise UserError(*found)
    return configs


def _label(combination: Sequence[str], keys: Sequence[str]) -> str:
    """What tells a combination from the others: `vgg16`, or `vgg16 adamw`."""
    values = dict(text.partition("=")[::2] for text in combination)
    return " ".join(values[key] for key in keys)


def _print(format_name: str, ledger: Ledger) -> None:
    from convoy.ledger import ledger_table, text_formats

    if format_name == "terminal":
        screen = ledger_table.console()
        sys.stdout.write(ledger_table.printed(ledger_table.rendered(ledger, screen.width), screen))
    elif format_name == "html":
        from convoy.ledger.html_page import html_text

        sys.stdout.write(html_text(ledger))
    else:
        writers = {"csv": text_formats.csv_text, "json": text_formats.json_text, "md": text_formats.markdown_text}
        sys.stdout.write(writers[format_name](ledger))
