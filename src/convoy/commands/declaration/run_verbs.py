"""Keys of the verbs that use a trained run, and of those that list runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from convoy.commands.declaration.verb import AtLeast, Call, Verb, name_of
from convoy.commands.main import ACTIONS
from convoy.config.faults import Fault, UserError, closest
from convoy.config.run_overrides import RUN_OVERRIDES
from convoy.runs.layout import RunFolder
from convoy.runs.lookup import find_run
from convoy.runtime.garbage_collection import without_collector

if TYPE_CHECKING:
    from convoy.cluster.run_states import ListedRun
    from convoy.evaluation.feature_arrays import Source
    from convoy.evaluation.trained_run import TrainedRun


@dataclass(frozen=True)
class TrainedRunVerb(Verb):
    """Base class of verbs that use the network of a run."""

    run: str | None = None
    """Folder of a run, its name (the newest run of that name), or latest."""
    checkpoint: str = "best"
    """best, last, or a file; without run, a checkpoint in any folder."""
    output_root: str = "outputs"
    """Folder in which latest and names are looked up."""

    key_of_words = "run"

    def faults(self) -> Iterator[Fault]:
        """Yield a fault if neither a run nor the file of a checkpoint is named."""
        if self.run is None and self.checkpoint in ("best", "last"):
            remedy = "write run=<run folder> or run=latest, or checkpoint=<file>"
            yield Fault("run", "must be set", remedy)
        elif self.run is None and Path(self.checkpoint).is_dir():
            yield Fault("checkpoint", "is a folder", f"write run={self.checkpoint}", self.checkpoint)

    def open(self) -> TrainedRun:
        """Open the run."""
        from convoy.evaluation.trained_run import TrainedRun

        return TrainedRun.open(self.run, self.checkpoint, self.output_root)


@dataclass(frozen=True)
class LayerVerb(TrainedRunVerb):
    """Base class of verbs that use a layer of a run's network."""

    layer: str | None = None
    """penultimate (the input of the last layer), fc1, fc2, ... (in AlexNet and
    VGG also fc6, fc7, fc8) after their activation, or a module that
    convoy ledger lists; null: penultimate."""

    overrides = RUN_OVERRIDES

    def source(self, call: Call) -> Source:
        """Open the run, the layer and the data."""
        from convoy.evaluation.feature_arrays import Source

        return Source.open(self.open(), self.layer, call.overrides, call.options)


@dataclass(frozen=True)
class NamedRunsVerb(Verb):
    """Base class of verbs about a fixed number of runs, which are named by words."""

    runs: list[str] = field(default_factory=list)
    """The runs."""
    output_root: Path = Path("outputs")
    """Folder of the runs."""

    words = "runs"
    num_runs: ClassVar[int] = 1

    def faults(self) -> Iterator[Fault]:
        """Yield a fault if there is another number of runs."""
        if len(self.runs) != self.num_runs:
            rule = f"must be {'one' if self.num_runs == 1 else 'two'}"
            remedy = " ".join(["convoy", name_of(type(self)), *["<run>"] * self.num_runs])
            yield Fault("runs", rule, remedy, " ".join(self.runs) or None)

    def folders(self) -> list[RunFolder]:
        """Return the folders of the runs."""
        return [find_run(text, self.output_root, "runs") for text in self.runs]


@dataclass(frozen=True)
class RunFilterVerb(Verb):
    """Base class of verbs that list runs. Lists of values are separated by commas."""

    runs: list[str] = field(default_factory=list)
    """Folders below output_root, or the last part of their names, with * and ?
    (in quotes)."""
    state: list[Literal["running", "finished", "failed", "queued", "preempted", "stopped"]] = field(
        default_factory=list
    )
    """States; empty for all."""
    task: list[str] = field(default_factory=list)
    """Tasks, such as classification, with * and ?."""
    model: list[str] = field(default_factory=list)
    """Names of models, with * and ?."""
    data: list[str] = field(default_factory=list)
    """Names of data sets, with * and ?."""
    name: list[str] = field(default_factory=list)
    """Names of runs, with * and ?."""
    older_days: Annotated[float, AtLeast(0)] | None = None
    """Smallest age in days, counted from the last start; null for any."""
    output_root: Path = Path("outputs")
    """Folder of the runs."""

    words = "runs"

    def chosen(self, now: float) -> list[ListedRun]:
        """Return the runs that the filters allow at a time in seconds since the epoch.

        Raises:
            UserError: if a word names no run.
        """
        from convoy.cluster.run_states import list_runs
        from convoy.report.run_table import RunFilter, is_named

        columns = {"task": self.task, "model": self.model, "data": self.data, "name": self.name}
        allowed = RunFilter(self.runs, self.state, columns, self.older_days)
        with without_collector():  # ten thousand runs are many objects that stay
            listed = list_runs(self.output_root)
            unknown = [text for text in self.runs if not any(is_named(run.facts.path, text) for run in listed)]
            if unknown:
                raise UserError(*(self._unknown(text) for text in unknown))
            return [run for run in listed if allowed.allows(run, now)]

    def _unknown(self, text: str) -> Fault:
        action = closest(text, ACTIONS["runs"])
        remedy = (
            f"did you mean convoy runs {action}?" if action else f"convoy runs output_root={self.output_root} lists all"
        )
        return Fault("runs", f"there is no such run under {self.output_root}", remedy, text)
