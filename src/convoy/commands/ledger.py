"""convoy ledger: memory and parameters per layer, and a comparison of several models."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from convoy.commands.declaration.verb import Call, Verb
from convoy.config.compose import from_saved, overlay
from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.run_overrides import run_key_faults
from convoy.config.schema import Config
from convoy.config.sweep_points import points, varied
from convoy.runs.lookup import find_run
from convoy.training import preflight

if TYPE_CHECKING:
    from convoy.ledger.rows import LedgerRows

_DATA_HINT = "The images are those of data={}, as in convoy train; data=imagenet has 3x224x224 and 1,000 classes."


@dataclass(frozen=True)
class LedgerArguments(Verb):
    """Print parameters, MACs and memory of training, layer by layer.

    Neither data nor weights nor a GPU are needed. See docs/ledger.md.

      convoy ledger model=vgg16 data=imagenet
      convoy ledger model=resnet50 data=imagenet trainer.precision=bf16-mixed
      convoy ledger model=vgg16 data=imagenet format=html output=vgg16.html
      convoy ledger run=latest
      convoy ledger model=vgg16,resnet50,mobilenet_v2 data=imagenet compare=true
    """

    format: Literal["terminal", "csv", "json", "md", "html"] = "terminal"
    """Format of the ledger."""
    compare: bool = False
    """Compare the totals of all combinations of comma-separated values; with
    format=terminal, csv, json or md."""
    run: str | None = None
    """Folder of a run, or latest, to print the ledger of its config."""
    output: Path | None = None
    """File to write; null for the terminal."""

    overrides = None
    checks_config = True
    instead_of_multirun = "write compare=true"

    def faults(self) -> Iterator[Fault]:
        """Yield the faults of combinations of keys."""
        if self.compare and self.format == "html":
            yield Fault(
                "format", "can't be combined with compare=true", "write format=md, or one html file per model", "html"
            )
        if self.compare and self.run is not None:
            yield Fault("run", "can't be combined with compare=true", "omit one of them", self.run)


ARGUMENTS = LedgerArguments


def run(given: LedgerArguments, call: Call) -> int:
    """Print a ledger or a comparison of several."""
    faults = run_key_faults(call.overrides, "the ledger")
    combinations, wrong = _combinations(given, call.overrides, call.options)
    configs = [_run_config(given.run, call)] if given.run else _configs(combinations, call.options, faults + wrong)
    # Imported here, since torch takes seconds to import.
    from convoy.planner.config_ledger import ledger_of

    ledgers = [ledger_of(config) for config in configs]
    if given.compare:
        from convoy.ledger.totals_table import compared

        keys = varied(call.overrides, call.options)
        text = compared([_label(combination, keys) for combination in combinations], ledgers, given.format)
    else:
        text = _text(given.format, ledgers[0])
        if given.format == "terminal" and given.run is None and not _names_data(call.overrides):
            text += f"\n{_DATA_HINT.format(configs[0].data.name)}\n"
    if given.output is not None:
        given.output.write_text(text, encoding="utf-8")
        print(given.output)
    else:
        sys.stdout.write(text)
    return 0


def _names_data(overrides: Sequence[str]) -> bool:
    return any(word.startswith(("data", "experiment")) for word in overrides)


def _run_config(run: str, call: Call) -> Config:
    """Return the saved config of a run with overrides."""
    roots = [text.partition("=")[2] for text in call.overrides if text.startswith("output_root=")]
    folder = find_run(run, roots[-1] if roots else "outputs")
    return preflight.checked(overlay(from_saved(folder.saved_config()), call.overrides, call.options), to_run=False)


def _combinations(
    given: LedgerArguments, overrides: list[str], options: Options
) -> tuple[list[list[str]], list[Fault]]:
    """Return the command line of each ledger, and the faults of their number."""
    try:
        combinations = points(overrides, options)
    except UserError as error:
        if any(fault.key != "-m" for fault in error.faults):
            return [overrides], list(error.faults)
        if not given.compare:
            return [overrides], []
        rule = "needs a key with several values"
        return [overrides], [Fault("compare", rule, "separate them with commas, as in model=vgg16,resnet50", "true")]
    if given.compare:
        return combinations, []
    several = ", ".join(varied(overrides, options))
    return combinations, [Fault(several, "has several values", "write compare=true to compare them")]


def _configs(combinations: Sequence[Sequence[str]], options: Options, faults: Sequence[Fault]) -> list[Config]:
    """Return the config of each combination; every fault is reported once."""
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
    """Return the values that distinguish a combination from the others: `vgg16`, or `vgg16 adamw`."""
    values = dict(text.partition("=")[::2] for text in combination)
    return " ".join(values[key] for key in keys)


def _text(format_name: str, ledger: LedgerRows) -> str:
    from convoy.ledger import ledger_table, text_formats
    from convoy.runtime.terminal_output import console, printed

    if format_name == "terminal":
        screen = console()
        return printed(ledger_table.rendered(ledger, screen.width), screen)
    if format_name == "html":
        from convoy.ledger.html_page import html_text

        return html_text(ledger)
    writers = {"csv": text_formats.csv_text, "json": text_formats.json_text, "md": text_formats.markdown_text}
    return writers[format_name](ledger)
