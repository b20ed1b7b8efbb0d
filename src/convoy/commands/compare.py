"""convoy compare: accuracy against complexity, of the networks of conf/model or of runs."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from convoy.commands import arguments
from convoy.config.cards import BENCHMARKS
from convoy.config.faults import Fault, UserError, did_you_mean

if TYPE_CHECKING:
    from convoy.evaluation.comparison import Entry

FORMATS = ("table", "md", "csv", "json")
PUBLISHED_SETS = ("imagenet", "cifar10")
PICTURES = (".png", ".svg", ".pdf")
_NARROWEST = 12
"""Characters that the last column of a table has at least."""
_KEYS = ("models", "runs", "published", "measure", "output", "output_root")

_HELP = """\
usage: convoy compare [models=[vgg16,resnet50,...]] [published=imagenet]
                      [measure=true] [output=<picture>]
                      [--format table|md|csv|json]
       convoy compare runs=[<run folder>,...] [output=<picture>]

  convoy compare output=zoo.png
  convoy compare models=[alexnet,vgg16,resnet50] measure=true
  convoy compare runs=[outputs/a/<run>,outputs/b/<run>] output=mine.png

  models     options of conf/model; all, where none is named
  runs       runs instead: their own accuracies, on test or else on val
  published  on which set the accuracies were published: imagenet or cifar10
  measure    time forward passes here, in float32 on the CPU, batches of 8;
             of runs, images/s are those of their training
  output     a picture, .png, .svg or .pdf: accuracy against MACs, circles as
             large as the number of parameters

MACs are of a forward pass of one image; "kept" is what autograd holds of an
image for the backward pass. Counting all networks takes about a minute."""


@dataclass
class Request:
    """What is compared, and how it is told."""

    models: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    published: str = "imagenet"
    measure: bool = False
    output: Path | None = None
    output_root: str = "outputs"
    format: str = "table"


def run(words: Sequence[str]) -> int:
    """Print the table that the words ask for, and draw the picture."""
    parsed = arguments.parse(words)
    if parsed.help:
        print(_HELP)
        return 0
    request = read(parsed.overrides)
    from convoy.evaluation import comparison
    from convoy.records.console import Console

    Console().log_to(None)
    if request.runs:
        found = list(comparison.from_runs(request.runs, request.output_root))
        sources = sorted({entry.source for entry in found if entry.source})
        title = f"runs: accuracies on {', '.join(sources)}" if sources else "runs"
    else:
        title = f"{BENCHMARKS[request.published]}: published accuracies"
        cards = comparison.chosen(request.models, request.published)
        found = list(_telling(comparison.from_cards(cards, request.published, measure=request.measure), len(cards)))
    for line in _text(found, request.format):
        print(line)
    if request.output is not None:
        from convoy.report.complexity import draw, save

        if not any(entry.top1 is not None for entry in found):
            raise UserError(Fault("output", "none of these runs has an accuracy to draw", "leave it out"))
        save(draw(found, title), request.output)
        print(f"\n{request.output}", file=sys.stderr if request.format in ("csv", "json") else sys.stdout)
    return 0


def read(words: Sequence[str]) -> Request:
    """Sort the words.

    Raises:
        UserError: with every fault of the words.
    """
    request, faults = Request(), []
    rest = list(words)
    while rest:
        key, sign, value = rest.pop(0).partition("=")
        if key == "--format":
            request.format = value if sign else rest.pop(0) if rest else ""
        elif key in ("models", "runs") and value:
            setattr(request, key, [one.strip() for one in value.strip("[]").split(",") if one.strip()])
        elif key == "measure" and value in ("true", "false"):
            request.measure = value == "true"
        elif key == "output" and value:
            request.output = Path(value)
        elif key in ("published", "output_root") and value:
            setattr(request, key, value)
        elif key == "measure":
            faults.append(Fault(key, "must be true or false", "", value))
        elif key in _KEYS:
            faults.append(Fault(key, "needs a value", f"write {key}=…"))
        else:
            near = did_you_mean(key, [*_KEYS, "--format"], f"it has {', '.join(_KEYS)} and --format")
            faults.append(Fault(key, "compare has no such key", near, value if sign else None))
    faults += _faults(request)
    if faults:
        raise UserError(*faults)
    return request


def _faults(request: Request) -> Iterator[Fault]:
    if request.models and request.runs:
        yield Fault("models", "stands beside runs", "write one of them", ",".join(request.models))
    if request.runs and request.measure:
        yield Fault("measure", "is of models; a run has its training's images/s", "leave it out", "true")
    for key, value, choices in (
        ("--format", request.format, FORMATS),
        ("published", request.published, PUBLISHED_SETS),
    ):
        if value not in choices:
            near = did_you_mean(value, choices, f"choose from {', '.join(choices)}")
            yield Fault(key, f"no such {key.lstrip('-')}", near, value)
    output = request.output
    if output is None:
        return
    if output.suffix not in PICTURES:
        yield Fault("output", "is a picture", f"end it in {', '.join(PICTURES)}", str(output))
    elif not output.absolute().parent.is_dir():
        yield Fault("output", f"there is no folder {output.parent}", "make it, or name another", str(output))
    elif output.exists():
        yield Fault("output", "exists already", "remove it, or name another file", str(output))


def _telling(found: Iterable[Entry], count: int) -> Iterator[Entry]:
    """Counting takes a while: where someone looks on, the last one counted is told."""
    told = sys.stderr.isatty()
    for number, entry in enumerate(found, start=1):
        if told:
            print(f"\r\033[K{number}/{count} {entry.name}", end="", file=sys.stderr, flush=True)
        yield entry
    if told:
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
    head = ["", "top-1", "params", "MACs", "kept", "pixels", *(["images/s"] if speeds else []), "source"]
    rows = [
        [
            entry.name,
            "–" if entry.top1 is None else f"{100 * entry.top1:.2f}%",
            short(entry.params),
            short(entry.macs),
            memory(entry.kept_bytes),
            str(entry.image_size),
            *(["–" if entry.images_per_s is None else f"{entry.images_per_s:,.1f}"] if speeds else []),
            entry.source,
        ]
        for entry in found
    ]
    if format_name == "md":
        yield markdown_table(head, rows, left=1)
        return
    yield from _columns(head, rows, shutil.get_terminal_size().columns if sys.stdout.isatty() else 0)


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Lines of a table, the first and the last column to the left.

    In a terminal of `width` columns the last one goes on below where it is too long; 0: no terminal.
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
