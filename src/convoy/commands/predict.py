"""convoy predict: the classes of image files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from convoy.commands import arguments
from convoy.config.faults import Fault, UserError, did_you_mean

if TYPE_CHECKING:
    from convoy.export.predictor import Prediction
    from convoy.tasks.task import Task

FORMATS = ("table", "jsonl")

_KEYS = ("checkpoint", "top", "format", "output_root")

_HELP = """\
usage: convoy predict checkpoint=<file or run folder> IMAGE ... [top=5]
                      [--format table|jsonl]

  convoy predict checkpoint=latest images/*.png
  convoy predict checkpoint=clothes.onnx images/*.png --format jsonl

  checkpoint  a run's folder (its best checkpoint), latest, a .ckpt in a run,
              or what convoy export wrote: .safetensors, .onnx, .pt2
  top         how many classes, the most probable first
  --format    a table, or a line of JSON an image

Images are prepared as those of the run's val split. One that can't be read
is named at the end, where the exit code is 2; the others have their classes."""


@dataclass
class Request:
    """What is to be predicted, from what and how it is told."""

    checkpoint: str = ""
    images: list[str] = field(default_factory=list)
    top: str = "5"
    format: str = "table"
    output_root: str = "outputs"


def run(words: Sequence[str]) -> int:
    """Print the classes of the images that the words name."""
    parsed = arguments.parse(words)
    if parsed.help:
        print(_HELP)
        return 0
    request = read(parsed.overrides)
    from convoy.export.predictor import open_predictor
    from convoy.records.console import Console

    Console().log_to(None)  # no library's warnings between the lines
    predictor = open_predictor(request.checkpoint, request.output_root)
    bad: list[Prediction] = []
    predictions = _noting(predictor.predict(request.images, int(request.top)), bad)
    lines = _json_lines(predictions) if request.format == "jsonl" else _table(predictor.task, list(predictions))
    for line in lines:
        print(line, flush=True)
    if bad:
        raise UserError(*(Fault(each.image, f"can't be read ({each.reason})") for each in bad))
    return 0


def read(words: Sequence[str]) -> Request:
    """Sort images from keys.

    Raises:
        UserError: with every fault of the words.
    """
    request, faults = Request(), []
    rest = list(words)
    while rest:
        text = rest.pop(0)
        key, sign, value = text.partition("=")
        if key == "--format":
            request.format = value if sign else (rest.pop(0) if rest else "")
        elif key in _KEYS and sign:
            setattr(request, key, value)
        elif key.startswith("-"):
            faults.append(Fault(key, "no such flag", did_you_mean(key, ("--format", "--help"), "see --help")))
        elif sign and not Path(text).exists() and "/" not in key:
            near = did_you_mean(key, _KEYS, f"it has {', '.join(_KEYS)}; images are named as they are")
            faults.append(Fault(key, "predict has no such key", near, value))
        else:
            request.images.append(text)
    if not request.checkpoint:
        remedy = "write checkpoint=<run folder>, or a file that convoy export wrote"
        faults.append(Fault("checkpoint", "must be set", remedy))
    if not request.images and not faults:
        faults.append(Fault("images", "must be named", "convoy predict checkpoint=… images/*.png"))
    if request.format not in FORMATS:
        near = did_you_mean(request.format, FORMATS, f"choose from {', '.join(FORMATS)}")
        faults.append(Fault("--format", "no such format", near, request.format))
    if not (request.top.isdecimal() and int(request.top)):
        faults.append(Fault("top", "must be a number, at least 1", "", request.top))
    if faults:
        raise UserError(*faults)
    return request


def _noting(predictions: Iterable[Prediction], bad: list[Prediction]) -> Iterator[Prediction]:
    """All, as they come; those without an answer are added to `bad`."""
    for prediction in predictions:
        if prediction.reason is not None:
            bad.append(prediction)
        yield prediction


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
    read = [(one.image, task.prediction_rows(one.record)) for one in predictions if one.reason is None]
    if not read:
        return
    image_width = max(len("image"), *(len(image) for image, _ in read))
    name_width = max(len("prediction"), *(len(name) for _, rows in read for name, _ in rows))
    yield f"{'image':<{image_width}}  {'prediction':<{name_width}}  {'value':>11}"
    for image, rows in read:
        for name, value in rows or [("–", "")]:
            yield f"{image:<{image_width}}  {name:<{name_width}}  {value:>11}".rstrip()
            image = ""
