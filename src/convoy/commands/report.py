"""convoy report: a page of a run, a sweep or a study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from convoy.commands.declaration.verb import Verb
from convoy.config.faults import Fault


@dataclass(frozen=True)
class Report(Verb):
    """Write a page of a run, a sweep or a study, which opens without a network.

    The page of a run shows the result, curves, errors per class, the worst
    predictions, the ledger, filters, configuration and environment. A finished
    run has one already, unless report=false was set. The page of a sweep
    compares its points; any folder of runs can be compared. That of a study
    also has its history, the importance of the parameters, and the Pareto
    front, also as PNG files.

      convoy report run=latest
      convoy report run=outputs/vgg16/<run> output=vgg16.html
      convoy report sweep=outputs/sweeps/<sweep>
      convoy report study=outputs/searches/<study>
    """

    run: str | None = None
    """Folder of a run, its name (the newest run of that name), or latest."""
    sweep: Path | None = None
    """Folder of a sweep, which contains the folders of its points."""
    study: Path | None = None
    """Folder of a study."""
    output: Path | None = None
    """Page to write, replaced if it exists; null for report.html in the folder
    of the run, the sweep or the study."""
    output_root: str = "outputs"
    """Folder in which latest and names are looked up."""

    key_of_words = "run"

    def faults(self) -> Iterator[Fault]:
        """Yield the faults of the run and the output."""
        given = [key for key in ("run", "sweep", "study") if getattr(self, key) is not None]
        if not given:
            remedy = "write run=<run folder>, run=latest, sweep=<sweep folder> or study=<study folder>"
            yield Fault("run", "must be set", remedy)
        elif len(given) > 1:
            key = given[1]
            yield Fault(key, f"can't be combined with {given[0]}", "omit one of them", str(getattr(self, key)))
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
    if given.study is not None:
        from convoy.report.pages.study_page import write_study_report

        print("\n".join(shown(path) for path in write_study_report(given.study, given.output)))
        return 0
    from convoy.report.pages.run_page import write_report
    from convoy.runs.lookup import find_run

    assert given.run is not None
    print(shown(write_report(find_run(given.run, given.output_root), given.output)))
    return 0
