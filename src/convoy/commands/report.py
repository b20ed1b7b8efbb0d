"""convoy report: a page of a run or a sweep."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from convoy.commands.verb import Verb
from convoy.config.faults import Fault


@dataclass(frozen=True)
class Report(Verb):
    """Write a page of a run or a sweep, which opens without a network.

    The page of a run shows the result, curves, errors per class, the worst
    predictions, the ledger, filters, configuration and environment. A finished
    run has one already, unless report=false was set. The page of a sweep
    compares its points; any folder of runs can be compared.

      convoy report run=latest
      convoy report run=outputs/vgg16/<run> output=vgg16.html
      convoy report sweep=outputs/sweeps/<sweep>
    """

    run: str | None = None
    """Folder of a run, its name (the newest run of that name), or latest."""
    sweep: Path | None = None
    """Folder of a sweep, which contains the folders of its points."""
    output: Path | None = None
    """Page to write, replaced if it exists; null for report.html in the folder
    of the run or the sweep."""
    output_root: str = "outputs"
    """Folder in which latest and names are looked up."""

    def faults(self) -> Iterator[Fault]:
        """Yield the faults of the run and the output."""
        if self.run is None and self.sweep is None:
            yield Fault("run", "must be set", "write run=<run folder>, run=latest or sweep=<sweep folder>")
        elif self.run is not None and self.sweep is not None:
            yield Fault("sweep", "can't be combined with run", "omit one of them", str(self.sweep))
        if self.output is None:
            return
        if self.output.suffix.lower() not in (".html", ".htm"):
            yield Fault("output", "is not the name of a page", f"write {self.output}.html", str(self.output))
        elif not self.output.absolute().parent.is_dir():
            rule = f"there is no folder {self.output.parent}"
            yield Fault("output", rule, "create it, or choose another", str(self.output))


ARGUMENTS = Report


def run(given: Report) -> int:
    """Write the page and print its path."""
    from convoy.runs.layout import shown

    if given.sweep is not None:
        from convoy.report.pages.sweep_page import write_sweep_report

        print(shown(write_sweep_report(given.sweep, given.output)))
        return 0
    from convoy.report.pages.run_page import write_report
    from convoy.runs.lookup import find_run

    assert given.run is not None
    print(shown(write_report(find_run(given.run, given.output_root), given.output)))
    return 0
