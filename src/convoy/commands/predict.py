"""convoy predict: predictions for image files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from convoy.commands.declaration.run_verbs import TrainedRunVerb
from convoy.commands.declaration.verb import AtLeast
from convoy.config.faults import Fault, UserError, printable
from convoy.runs.whole_files import replace_text

if TYPE_CHECKING:
    from convoy.export.predictor import Prediction
    from convoy.tasks.task import Task

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".npy")


@dataclass(frozen=True)
class Predict(TrainedRunVerb):
    """Print the predictions for image files, folders and patterns.

    Images are prepared like those of the run's val split. Images that can't be
    read are listed at the end, and the exit code is then 2.

      convoy predict run=latest images/*.png
      convoy predict checkpoint=clothes.onnx photos/ format=jsonl
      convoy predict run=latest photos/ output=predicted
    """

    checkpoint: str = "best"
    """best, last, or a file. Without run: a checkpoint in any folder, or a file
    written by convoy export (.safetensors, .onnx, .pt2)."""
    images: list[str] = field(default_factory=list)
    """Image files, folders (all images in them) and patterns such as '*.png'."""
    top: Annotated[int, AtLeast(1)] = 5
    """Number of classes per image, the most probable first."""
    format: Literal["table", "jsonl"] = "table"
    """A table, or one line of JSON per image."""
    output: str | None = None
    """Folder for predictions.jsonl and, for tasks whose predictions are images
    or can be drawn, <image>.png (masks, restored images) and
    <image>-drawn.png."""

    words = "images"
    folder_keys = ("output", "output_root")

    def faults(self) -> Iterator[Fault]:
        """Yield a fault if the network or the images are missing."""
        yield from super().faults()
        if not self.images:
            yield Fault("images", "must be named", "convoy predict run=latest images/*.png")


ARGUMENTS = Predict


def run(given: Predict) -> int:
    """Print the predictions."""
    from convoy.export.predictor import open_predictor
    from convoy.records.console import Console

    Console().log_to(None)  # no warnings of libraries between the lines
    images = list(_files(given.images))
    if given.output is not None:
        _check_output(Path(given.output), images)
    predictor = open_predictor(given.run, given.checkpoint, given.output_root)
    bad: list[Prediction] = []
    predictions = _noting(predictor.predict(images, given.top, with_pictures=given.output is not None), bad)
    if given.output is not None:
        predictions = _written(predictions, Path(given.output))
    lines = _json_lines(predictions) if given.format == "jsonl" else _table(predictor.task, list(predictions))
    for line in lines:
        print(line, flush=True)
    if bad:
        raise UserError(*(Fault(each.image, f"can't be read ({each.reason})") for each in bad))
    return 0


def _files(names: Sequence[str]) -> Iterator[str]:
    """Yield the image files of file names, folders and patterns.

    Raises:
        UserError: if a folder or a pattern has no image.
    """
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = sorted(one for one in path.rglob("*") if one.suffix.lower() in IMAGE_SUFFIXES)
        elif any(sign in name for sign in "*?[") and not path.exists():
            anchor = Path(path.anchor) if path.is_absolute() else Path()
            found = sorted(anchor.glob(str(path.relative_to(path.anchor) if path.is_absolute() else path)))
        else:
            yield name
            continue
        if not found:
            raise UserError(Fault("images", "has no image", f"images end in {', '.join(IMAGE_SUFFIXES)}", name))
        yield from map(str, found)


def _noting(predictions: Iterable[Prediction], bad: list[Prediction]) -> Iterator[Prediction]:
    """Yield all predictions; those without a result are added to `bad`."""
    for prediction in predictions:
        if prediction.reason is not None:
            bad.append(prediction)
        yield prediction


def _check_output(folder: Path, images: Sequence[str]) -> None:
    """Raise if a picture could replace one of the images."""
    if own := next((image for image in images if Path(image).resolve().parent == folder.resolve()), None):
        raise UserError(Fault("output", f"has the image {own}, which a picture could replace", "name another folder"))


def _written(predictions: Iterable[Prediction], folder: Path) -> Iterator[Prediction]:
    """Write the predictions to a folder as they pass by, then their records as predictions.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    names: set[str] = set()
    kept: list[Prediction] = []
    for prediction in predictions:
        stem = name = Path(prediction.image).stem
        count = 1
        while not names.isdisjoint((name, f"{name}-drawn")):
            count += 1
            name = f"{stem}-{count}"
        names |= {name, f"{name}-drawn"}
        for picture, end in ((prediction.picture, ""), (prediction.drawing, "-drawn")):
            if picture is not None:
                picture.save(folder / f"{name}{end}.png")
        kept.append(replace(prediction, picture=None, drawing=None))
        yield kept[-1]
    replace_text(folder / "predictions.jsonl", "".join(f"{line}\n" for line in _json_lines(kept)))


def _json_lines(predictions: Iterable[Prediction]) -> Iterator[str]:
    for prediction in predictions:
        record: dict[str, object] = {"image": prediction.image}
        if prediction.reason is not None:
            record["error"] = prediction.reason
        else:
            record |= prediction.record
        yield json.dumps(record, ensure_ascii=False)


def _table(task: Task, predictions: Sequence[Prediction]) -> Iterator[str]:
    """Yield a line per predicted name, in columns; paths are never cut."""
    read = [(printable(one.image), task.prediction_rows(one.record)) for one in predictions if one.reason is None]
    if not read:
        return
    image_width = max(len("image"), *(len(image) for image, _ in read))
    name_width = max(len("prediction"), *(len(name) for _, rows in read for name, _ in rows))
    yield f"{'image':<{image_width}}  {'prediction':<{name_width}}  {'value':>11}"
    for image, rows in read:
        for name, value in rows or [("–", "")]:
            yield f"{image:<{image_width}}  {name:<{name_width}}  {value:>11}".rstrip()
            image = ""
