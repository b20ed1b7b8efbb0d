"""Images of a test with the worst predictions, kept while the test runs, for the page of a run."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from convoy.config.data_schema import DataConfig
from convoy.config.image_size import Sides
from convoy.data.batches.collate import Batch
from convoy.data.located.pictures import as_picture, side_by_side
from convoy.data.located.placement import Placement
from convoy.runs.whole_files import replace_text
from convoy.tasks.task import Task

MOST_IMAGES = 24
LARGEST_SIDE = 160
"""Height in pixels to which larger images are reduced."""

_MOST_ROWS = 3


@dataclass(frozen=True)
class Mistake:
    """Image with a wrong prediction.

    Attributes:
        severity: see `Task.severity`.
        image: the image, for targets that can be drawn beside its target and its prediction.
        target: for people.
        prediction: names and values of the prediction, for people.
        count: number of pictures side by side in `image`.
    """

    severity: float
    image: Image.Image
    target: str
    prediction: list[tuple[str, str]]
    count: int = 1


class Mistakes:
    """The images of a test with the worst predictions.

    Args:
        task: ranks the predictions.
        data: normalization of the images.
    """

    def __init__(self, task: Task, data: DataConfig) -> None:
        self._task, self._data = task, data
        self.found: list[Mistake] = []

    def add(self, outputs: Any, batch: Batch) -> None:
        """Keep the worst images of a batch that are worse than those kept before."""
        severity = self._task.severity(outputs, batch.targets)
        if severity is None:
            return
        least = self.found[-1].severity if len(self.found) == MOST_IMAGES else 0.0
        values, order = severity.float().topk(min(MOST_IMAGES, len(severity)))
        chosen = order[values > least]
        if not len(chosen):
            return
        targets = self._task.target_texts(batch.targets[chosen])
        records = self._task.predictions(outputs[chosen], _MOST_ROWS)
        for index, target, record in zip(range(len(chosen)), targets, records, strict=True):
            rows = [(str(name), str(value)) for name, value in self._task.prediction_rows(record)][:_MOST_ROWS]
            place = int(chosen[index])
            image = self._image(batch.images[place])
            pictures = self._pictures(image, record, outputs[place : place + 1], batch.targets[place])
            shown = image if batch.images.shape[1] > 1 else image.convert("L")
            if len(pictures) > 1:
                shown = side_by_side(pictures)
            self.found.append(Mistake(float(values[index]), _reduced(shown), target, rows, len(pictures)))
        self.merge([])

    def merge(self, others: list[Mistake]) -> None:
        """Keep the worst of these and of another rank's images."""
        found = sorted([*self.found, *others], key=lambda one: -one.severity)
        self.found = found[:MOST_IMAGES]

    def write(self, path: Path, split: str) -> None:
        """Write the images with their targets and predictions as JSON; no file if there are none."""
        if not self.found:
            return
        images = [
            {
                "target": one.target,
                "prediction": one.prediction,
                "severity": one.severity,
                "image": image_url(one.image),
                "pictures": one.count,
            }
            for one in self.found
        ]
        content = {"split": split, "order": self._task.severity_text, "images": images}
        replace_text(path, json.dumps(content, indent=1) + "\n")

    def _image(self, image: Tensor) -> Image.Image:
        mean = torch.tensor(self._data.mean)[:, None, None]
        std = torch.tensor(self._data.std)[:, None, None]
        levels = ((image.detach().float().cpu() * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)
        return as_picture(levels.permute(1, 2, 0).contiguous().numpy())

    def _pictures(self, image: Image.Image, record: Mapping[str, Any], outputs: Any, target: Any) -> list[Image.Image]:
        """Return the image and, for targets that can be drawn, target and prediction."""
        wanted = self._task.drawn_target(image, target.cpu())
        if wanted is None:
            return [image]
        size = Sides(image.height, image.width)
        picture = self._task.picture(outputs, Placement.fitting(image.width, image.height, size), size)
        predicted = self._task.drawn(image, record, picture) or picture
        return [image, wanted, *([] if predicted is None else [predicted])]


def _reduced(image: Image.Image) -> Image.Image:
    image.thumbnail((3 * LARGEST_SIDE, LARGEST_SIDE))
    return image


def image_url(image: Image.Image) -> str:
    """Return an image as a data URL of a PNG."""
    file = BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
