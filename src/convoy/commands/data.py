"""convoy data: a look at a data set before training."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from convoy.commands.declaration.verb import AtLeast, Call, Verb
from convoy.config.faults import Fault, UserError

_PAGE_WIDTH = 100
"""Columns of the report in an HTML page."""


@dataclass(frozen=True)
class Data(Verb):
    """Look at a data set before training.

    Decodes the images and prints the number of images per class or the
    distribution of values, sizes and modes, mean and deviation of the
    training pixels, unreadable files, and duplicates within and across
    splits. output=examples.png draws random images of each class before and
    after augmentation, and pairs of duplicates. See docs/data.md.

      convoy data data=/path/to/images
      convoy data data=cifar10 output=examples.html
      convoy data data=cifar10 format=json
      convoy data data=table task=regression data.file=labels.csv \\
          data.image_column=file data.target_column=weight
    """

    limit: Annotated[int, AtLeast(0)] = 100_000
    """Most images to decode; of larger sets, a random sample; 0: all."""
    all_classes: bool = False
    """Whether all classes are listed, and not only the largest and smallest
    ones of many."""
    format: Literal["terminal", "json"] = "terminal"
    """Format of the report; json lists all unreadable files and duplicates."""
    output: Path | None = None
    """Contact sheet to write, .png, or .html for a page with the report; null:
    no file."""

    overrides = ("data", "task", "experiment", "seed")
    key_of_words = "data"
    instead_of_multirun = "look at one data set at a time"

    def faults(self) -> Iterator[Fault]:
        """Yield the faults of the file to write."""
        if self.output is None:
            return
        if self.output.suffix.lower() not in (".png", ".html"):
            yield Fault(
                "output", "must end in .png or .html", f"write output={self.output.stem}.html", str(self.output)
            )
        elif not self.output.absolute().parent.is_dir():
            yield Fault("output", "is in a folder that does not exist", "create the folder first", str(self.output))
        elif self.output.is_dir():
            yield Fault("output", "is a folder", f"write output={self.output}/examples.html", str(self.output))


ARGUMENTS = Data


def run(given: Data, call: Call) -> int:
    """Inspect the data set and print the report."""
    from convoy.training import preflight

    if not any(text.startswith(("data=", "experiment=")) for text in call.overrides):
        raise UserError(Fault("data", "must be set", "write data=<option>, or data=<folder of images>"))
    config = preflight.read_data(call.overrides, call.options)
    # Imported here, since torch takes seconds to import.
    import torch
    from rich.console import Console as RichConsole

    from convoy.data.data_module import num_decoding_threads
    from convoy.data.inspection.examples import example_rows
    from convoy.data.inspection.inspect_data import chosen_samples, inspect_data
    from convoy.data.inspection.record import as_data
    from convoy.data.opening.open_data import open_data
    from convoy.records.console import Console
    from convoy.report.contact_page import write_page
    from convoy.report.contact_sheet import write_sheet
    from convoy.report.data_tables import rendered
    from convoy.runs.layout import shown
    from convoy.runtime.terminal_output import console, printed

    Console().log_to(None)
    torch.set_num_threads(1)  # the decoding threads share the cores
    # Each image once.
    config.data.patches_per_image = 1
    opened = open_data(config.data, config.seed)
    samples = chosen_samples(opened, given.limit, config.seed)
    with _progress(sum(map(len, samples.values()))) as report:
        found = inspect_data(opened, config.data, samples, num_decoding_threads(config.data.num_workers, 1), report)
    text = rendered(found, config.data, opened.notes, all_classes=given.all_classes)
    if given.format == "json":
        print(json.dumps(as_data(found, config.data, opened.notes), indent=2))
    else:
        sys.stdout.write(printed(text, console()))
    if given.output is not None:
        rows = example_rows(opened, found, config.data, config.seed, all_classes=given.all_classes)
        title = f"{config.data.name}: examples of {found.targets.describe()}"
        if given.output.suffix.lower() == ".html":
            page = RichConsole(width=_PAGE_WIDTH, color_system=None, highlight=False)
            write_page(title, printed(text, page), rows, given.output)
        else:
            write_sheet(title, rows, given.output)
        print(shown(given.output), file=sys.stderr if given.format == "json" else sys.stdout)
    return 0


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show the number of images that were read, on standard error if it is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("reading images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda count: progress.advance(task, count)
