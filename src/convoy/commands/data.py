"""convoy data: a look at a data set before training."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

from convoy.commands.verb import AtLeast, Call, Verb
from convoy.config.faults import Fault, UserError


@dataclass(frozen=True)
class Data(Verb):
    """Look at a data set before training.

    Decodes the images and prints the number of images per class or the
    distribution of values, sizes and modes, mean and deviation of the
    training pixels, unreadable files, and duplicates within and across
    splits. See docs/data.md.

      convoy data data=/path/to/images
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

    overrides = ("data", "task", "experiment", "seed")
    key_of_words = "data"
    instead_of_multirun = "look at one data set at a time"


ARGUMENTS = Data


def run(given: Data, call: Call) -> int:
    """Inspect the data set and print the report."""
    from convoy.training import preflight

    if not any(text.startswith(("data=", "experiment=")) for text in call.overrides):
        raise UserError(Fault("data", "must be set", "write data=<option>, or data=<folder of images>"))
    config = preflight.read_data(call.overrides, call.options)
    # Imported here, since torch takes seconds to import.
    import torch

    from convoy.data.data_module import num_decoding_threads
    from convoy.data.datasets import open_data
    from convoy.data.inspection.inspect_data import chosen_samples, inspect_data
    from convoy.data.inspection.record import as_data
    from convoy.ledger.ledger_table import console, printed
    from convoy.records.console import Console
    from convoy.report.data_tables import rendered

    Console().log_to(None)
    torch.set_num_threads(1)  # the decoding threads share the cores
    opened = open_data(config.data, config.seed)
    samples = chosen_samples(opened, given.limit, config.seed)
    with _progress(sum(map(len, samples.values()))) as report:
        found = inspect_data(opened, config.data, samples, num_decoding_threads(config.data.num_workers, 1), report)
    if given.format == "json":
        print(json.dumps(as_data(found, config.data, opened.notes), indent=2))
    else:
        text = rendered(found, config.data, opened.notes, all_classes=given.all_classes)
        sys.stdout.write(printed(text, console()))
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
