"""convoy compare: accuracy against complexity of the networks in conf/model or of runs."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from convoy.commands.declaration.verb import Verb
from convoy.config.cards import BENCHMARKS
from convoy.config.faults import Fault, UserError
from convoy.config.image_size import sides_of
from convoy.runs.records import metric_text

if TYPE_CHECKING:
    from convoy.evaluation.comparison import Entry

PICTURES = (".png", ".svg", ".pdf")
_NARROWEST = 12
"""Minimum width of a table's last column in characters."""


@dataclass(frozen=True)
class Compare(Verb):
    """Compare quality and complexity of networks in conf/model, or of runs.

    Networks are listed with their published accuracies, runs with their
    monitored metric on test, or on val if they were not tested. MACs are those
    of a forward pass of one image; "kept" is the memory per image that autograd
    keeps for the backward pass. Counting all networks takes about a minute.

      convoy compare output=zoo.png
      convoy compare alexnet vgg16 resnet50 measure=true
      convoy compare runs=[outputs/a/<run>,outputs/b/<run>] output=mine.png
    """

    models: list[str] = field(default_factory=list)
    """Options of conf/model; empty for all."""
    runs: list[str] = field(default_factory=list)
    """Folders of runs to compare instead."""
    published: Literal["imagenet", "cifar10"] = "imagenet"
    """Data set of the published accuracies."""
    measure: bool = False
    """Time forward passes on this machine, in float32 on the CPU, with batches
    of 8. For runs, the images/s of training are always listed."""
    output: Path | None = None
    """Figure to write (.png, .svg or .pdf): the metric against MACs, with circle
    areas proportional to the number of parameters."""
    format: Literal["table", "md", "csv", "json"] = "table"
    """Format of the printed table."""
    output_root: str = "outputs"
    """Folder in which latest is looked up."""

    words = "models"

    def faults(self) -> Iterator[Fault]:
        """Yield the faults of combinations of keys, and of the output."""
        if self.models and self.runs:
            yield Fault("models", "can't be combined with runs", "omit one of them", ",".join(self.models))
        if self.runs and self.measure:
            rule = "applies only to models; the images/s of runs are those of training"
            yield Fault("measure", rule, "omit measure", "true")
        output = self.output
        if output is None:
            return
        if output.suffix not in PICTURES:
            rule = "has no supported image format"
            yield Fault("output", rule, f"choose from {', '.join(PICTURES)}", str(output))
        elif not output.absolute().parent.is_dir():
            yield Fault("output", f"there is no folder {output.parent}", "create it, or choose another", str(output))
        elif output.exists():
            yield Fault("output", "exists already", "remove it, or choose another file", str(output))


ARGUMENTS = Compare


def run(given: Compare) -> int:
    """Print the table and draw the figure."""
    from convoy.evaluation import comparison
    from convoy.records.console import Console

    Console().log_to(None)
    if given.runs:
        found = list(comparison.from_runs(given.runs, given.output_root))
        sources = sorted({entry.source for entry in found if entry.source})
        title = f"runs: {', '.join(sources)}" if sources else "runs"
    else:
        title = f"{BENCHMARKS[given.published]}: published accuracies"
        cards = comparison.chosen(given.models, given.published)
        found = list(_telling(comparison.from_cards(cards, given.published, measure=given.measure), len(cards)))
    for line in _text(found, given.format):
        print(line)
    if given.output is not None:
        from convoy.report.complexity import draw, save

        metrics = sorted({str(entry.metric) for entry in found if entry.value is not None})
        if len(metrics) != 1:
            rule = f"these runs monitor different metrics ({', '.join(metrics)})" if metrics else "no run has a metric"
            remedy = "omit output, or compare runs with the same metric"
            raise UserError(Fault("output", rule, remedy, str(given.output)))
        save(draw(found, title), given.output)
        print(f"\n{given.output}", file=sys.stderr if given.format in ("csv", "json") else sys.stdout)
    return 0


def _telling(found: Iterable[Entry], count: int) -> Iterator[Entry]:
    """Yield the entries and, on a terminal, print the progress."""
    is_shown = sys.stderr.isatty()
    for number, entry in enumerate(found, start=1):
        if is_shown:
            print(f"\r\033[K{number}/{count} {entry.name}", end="", file=sys.stderr, flush=True)
        yield entry
    if is_shown:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _text(found: Sequence[Entry], format_name: str) -> Iterator[str]:
    if format_name == "json":
        yield json.dumps([asdict(entry) for entry in found], indent=2)
        return
    if format_name == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        names = [one.name for one in fields(found[0])]
        writer.writerow(names)
        writer.writerows([getattr(entry, name) for name in names] for entry in found)
        return
    from convoy.ledger.summary_text import memory, short
    from convoy.ledger.text_formats import markdown_table

    speeds = any(entry.images_per_s is not None for entry in found)
    metrics = {entry.metric for entry in found if entry.metric is not None}
    single = next(iter(metrics)) if len(metrics) == 1 else None
    head = ["", single or "metric", "params", "MACs", "kept", "pixels", *(["images/s"] if speeds else []), "source"]
    rows = [
        [
            entry.name,
            _quality(entry) if single or entry.metric is None else f"{entry.metric} {_quality(entry)}",
            short(entry.params),
            short(entry.macs),
            memory(entry.kept_bytes),
            sides_of(entry.image_size).text,
            *(["–" if entry.images_per_s is None else f"{entry.images_per_s:,.1f}"] if speeds else []),
            entry.source,
        ]
        for entry in found
    ]
    if format_name == "md":
        yield markdown_table(head, rows, left=1)
        return
    yield from _columns(head, rows, shutil.get_terminal_size().columns if sys.stdout.isatty() else 0)


def _quality(entry: Entry) -> str:
    return metric_text("", entry.value, ("",) if entry.is_fraction else ())


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Yield the lines of a table with the first and the last column aligned left.

    A last cell that exceeds the terminal's `width` is wrapped; a width of 0 means no terminal.
    """
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    indent = sum(widths[:-1]) + 2 * (len(widths) - 1)
    room = max(width - indent, _NARROWEST) if width else widths[-1]
    for row in [head, *rows]:
        first, *middle = row[:-1]
        figures = [f"{text:>{wide}}" for text, wide in zip(middle, widths[1:-1], strict=True)]
        last = textwrap.wrap(row[-1], room) or [""]
        yield "  ".join([f"{first:<{widths[0]}}", *figures, last[0]]).rstrip()
        yield from (" " * indent + more for more in last[1:])
