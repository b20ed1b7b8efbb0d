"""Classes and probabilities of image files, by a network from wherever it comes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from convoy.config.faults import Fault, UserError
from convoy.data.preparation import prepare_files
from convoy.evaluation.trained_run import load_trained, locate
from convoy.export.formats import Run, read, run_network
from convoy.export.metadata import Facts
from convoy.export.suffixes import SUFFIXES

_BATCH_SIZE = 64
_SUFFIXES = tuple(SUFFIXES.values())


@dataclass(frozen=True)
class Prediction:
    """Of one image.

    Attributes:
        image: the file's path, as it was named.
        ranked: classes with their probabilities, the most probable first; empty of one that can't be read.
        reason: why it can't be read.
    """

    image: str
    ranked: tuple[tuple[str, float], ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class Predictor:
    """A network that is ready for images.

    Attributes:
        facts: its classes, and how images are prepared for it.
        run: logits of prepared images.
    """

    facts: Facts
    run: Run

    def predict(self, paths: Sequence[str], top: int) -> Iterator[Prediction]:
        """The `top` most probable classes of each file, in the order of the files."""
        num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        classes = self.facts.classes
        for files in prepare_files(paths, self.facts.preparation, _BATCH_SIZE, num_threads):
            # In float64, so that the probabilities of one image add up to 1.
            ranked: Iterator[tuple[list[int], list[float]]] = iter(())
            if len(files.images):
                probabilities = self.run(files.images).double().softmax(1)
                best = probabilities.topk(min(top, len(classes)))
                ranked = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            for path in files.paths:
                if path in files.reasons:
                    yield Prediction(path, reason=files.reasons[path])
                else:
                    pairs = zip(*next(ranked), strict=True)
                    yield Prediction(path, tuple((classes[index], value) for index, value in pairs))


def open_predictor(text: str, output_root: str = "outputs") -> Predictor:
    """The network that `text` names: a run's folder or latest, a checkpoint in a run, or an exported file.

    Raises:
        UserError: there is no such file or run, or it can't be used.
    """
    path = Path(text)
    if path.suffix in _SUFFIXES:
        if not path.is_file():
            raise UserError(Fault("checkpoint", "no such file", "convoy export run=… writes one", text))
        return Predictor(*read(path))
    if path.is_file() and path.suffix != ".ckpt":
        kinds = ("best.ckpt", *_SUFFIXES)
        rule = f"is no run's folder, nor a file like {', '.join(kinds)}"
        raise UserError(Fault("checkpoint", rule, "name one of these", text))
    trained = load_trained(*locate(text, "best", output_root, key="checkpoint"))
    return Predictor(trained.facts, run_network(trained.network))
