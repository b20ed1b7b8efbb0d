"""Predictions for image files with the network of a run or an exported file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from convoy.config.compose import from_saved, to_config
from convoy.config.faults import Fault, UserError
from convoy.config.image_size import Sides
from convoy.data.images.preparation import prepare_files
from convoy.data.located.pictures import as_picture
from convoy.evaluation.network_facts import Facts
from convoy.evaluation.trained_run import TrainedRun
from convoy.export.formats import Run, read, run_network
from convoy.runs.layout import EXPORT_SUFFIXES
from convoy.runtime.cpu_cores import own_cores
from convoy.tasks.construction import build_task
from convoy.tasks.task import Task

_BATCH_SIZE = 64
_SUFFIXES = tuple(EXPORT_SUFFIXES.values())


@dataclass(frozen=True)
class Prediction:
    """Prediction for one image.

    Attributes:
        image: path of the file as given by the user.
        record: JSON record of the task; empty for an image that can't be read.
        reason: decoder message for an image that can't be read, else empty.
        picture: the prediction as an image, if it is one.
        drawing: the image with the prediction drawn on it, if it can be drawn.
    """

    image: str
    record: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    picture: Image.Image | None = None
    drawing: Image.Image | None = None


@dataclass(frozen=True)
class Predictor:
    """Network that is ready for images.

    Attributes:
        facts: names of targets and preparation of images.
        task: task that converts outputs to predictions.
        run: function that returns the outputs for prepared images.
    """

    facts: Facts
    task: Task
    run: Run

    def predict(self, paths: Sequence[str], top: int, *, with_pictures: bool = False) -> Iterator[Prediction]:
        """Yield the prediction for each file, in the order of the files.

        Args:
            paths: image files.
            top: maximum number of entries per image, for tasks that rank classes.
            with_pictures: whether pictures and drawings are wanted.
        """
        for files in prepare_files(paths, self.facts.preparation, _BATCH_SIZE, own_cores(1)):
            outputs = self.task.outputs(self.run, files.images) if len(files.images) else files.images
            good = iter(enumerate(self.task.predictions(outputs, top) if len(outputs) else ()))
            for path in files.paths:
                if path in files.reasons:
                    yield Prediction(path, reason=files.reasons[path])
                    continue
                place, record = next(good)
                yield self._prediction(path, record, outputs[place][None], files.sizes[place], with_pictures)

    def _prediction(
        self, path: str, record: Mapping[str, Any], outputs: Tensor, size: Sides, with_pictures: bool
    ) -> Prediction:
        placement = self.facts.preparation.placement(size.width, size.height)
        if placement is None:
            return Prediction(path, record)
        record = self.task.in_file(record, placement)
        if not with_pictures:
            return Prediction(path, record)
        picture = self.task.picture(outputs, placement, size)
        image = as_picture(self.facts.preparation.open(path).pixels(size.height, 1))
        return Prediction(path, record, picture=picture, drawing=self.task.drawn(image, record, picture))


def open_predictor(run: str | None, checkpoint: str, output_root: str = "outputs") -> Predictor:
    """Open the network of a run, of a checkpoint, or of an exported file.

    Args:
        run: see `TrainedRun.open`.
        checkpoint: see `TrainedRun.open`; or, without a run, a file that `convoy export` wrote.
        output_root: folder in which latest and names are looked up.

    Raises:
        UserError: if there is no such file or run, or it can't be used.
    """
    path = Path(checkpoint)
    if path.suffix in _SUFFIXES:
        if run is not None:
            raise UserError(Fault("run", f"can't be combined with the exported file {checkpoint}", "omit run", run))
        if not path.is_file():
            raise UserError(Fault("checkpoint", "no such file", "convoy export run=… writes one", checkpoint))
        facts, outputs = read(path)
        config = to_config(from_saved(dict(facts.config)))
        return Predictor(facts, build_task(config, facts.targets), outputs)
    if run is None and path.is_file() and path.suffix != ".ckpt":
        rule = f"is not a checkpoint or a file with one of the suffixes {', '.join(_SUFFIXES)}"
        raise UserError(Fault("checkpoint", rule, "give a run's best.ckpt or an exported file", checkpoint))
    trained = TrainedRun.open(run, checkpoint, output_root)
    return Predictor(trained.facts, trained.task, run_network(trained.network))
