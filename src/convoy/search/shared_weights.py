"""Run of a study that trains the weights which its networks share, and the networks that it ranks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.config.targets import takes
from convoy.runs.layout import RunFolder, shown
from convoy.runtime.child_runs import MOST_DEATHS, ChildRuns, last_line, try_lock, words_of
from convoy.search.architecture.cell_space import CellSpace
from convoy.search.architecture.decisions import Values
from convoy.search.architecture.reading import SHARING
from convoy.search.study_config import StudyConfig, override, overrides_of
from convoy.training import preflight

CANDIDATES = "CONVOY_SEARCH_CANDIDATES"
"""Environment variable of the run: the file for its ranked networks."""

_EPOCHS = 30
_LOOK_EVERY_S = 0.5
_TARGET = "callback.search._target_=convoy.search.architecture.weight_sharing.WeightSharing"
_MODEL = "model._target_=convoy.models.shared_cells.SharedCells"


class SharedWeights:
    """Weights that all networks of a study share. They are trained by one run, before the trials.

    Args:
        folder: of the study.
        study: with `sampler: enas`.
        words: overrides of the command line.
        options: folders of the options.
    """

    def __init__(self, folder: Path, study: StudyConfig, words: Sequence[str], options: Options) -> None:
        self._study, self._words, self._options = study, words, options
        self._run = RunFolder(folder / "shared")
        self._lock = folder / ".shared.lock"
        self._file = folder / "candidates.json"

    def ranked(self, children: ChildRuns, worker: int) -> list[Values]:
        """Return the ranked networks, the best first, after training the weights if this was not done; [] if stopped.

        Args:
            children: that train the run; a run that was killed is resumed.
            worker: number of the worker.

        Raises:
            UserError: the training failed.
        """
        deaths = 0
        while not self._file.is_file():
            if children.is_stopped:
                return []
            lock = try_lock(self._lock)
            if lock is None:
                children.wait(_LOOK_EVERY_S)  # another worker trains them
                continue
            print(f"training the weights that the networks share; log: {shown(self._log)}", flush=True)
            with lock:
                code = 0 if self._file.is_file() else self._train(children, worker, lock)
            deaths += code > 128
            if not (children.is_stopped or self._file.is_file() or (code > 128 and deaths < MOST_DEATHS)):
                rule = f"the training of the shared weights failed: {last_line(self._log, code)}"
                remedy = f"see {shown(self._log)}, and resume the study when the cause is removed, or start another"
                raise UserError(Fault(f"sampler.{SHARING}", rule, remedy))
        return [tuple(one["values"]) for one in json.loads(self._file.read_text(encoding="utf-8"))]

    @property
    def _log(self) -> Path:
        return self._run.path.with_suffix(".log")

    def _train(self, children: ChildRuns, worker: int, lock: IO[str]) -> int:
        words = words_of(self._run, [*children.threads(), *self.overrides()])
        return children.train(words, worker, lock, {CANDIDATES: str(self._file)}, self._log)

    def overrides(self) -> list[str]:
        """Return the overrides of the run."""
        space, settings = self._study.architecture, {"seed": self._study.seed, **self._study.sampler_settings}
        assert isinstance(space, CellSpace)  # `study_config` demands it
        first = space.decode([0] * len(space.decisions))
        words = overrides_of(self._study, list(first.items()), self._words)
        epochs = settings.pop("epochs", _EPOCHS)
        return [
            *words,
            _MODEL,
            override("+model.operations", list(space.operations)),
            f"trainer.max_epochs={epochs}",
            "trainer.max_steps=null",
            "trainer.early_stopping_epochs=null",
            "trainer.compile=false",
            "trainer.test=false",
            "report=false",
            *self._unfused(words),
            f"+{_TARGET}",
            *(override(f"+callback.search.{key}", value) for key, value in settings.items()),
        ]

    def _unfused(self, words: Sequence[str]) -> list[str]:
        """Return the override that turns a fused optimizer off: torch's fail where parameters have no gradient yet."""
        node = preflight.read(words, self._options, to_run=False).optimizer
        if not takes(node, "optimizer", "fused"):
            return []
        return [override("optimizer.fused" if "fused" in node else "+optimizer.fused", False)]
