"""Images of a test with the worst predictions, kept while the test runs, for the page of a run."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from convoy.config.data_schema import DataConfig
from convoy.data.collate import Batch
from convoy.runs.whole_files import replace_text
from convoy.tasks.task import Task

MOST_IMAGES = 24
LARGEST_SIDE = 160
"""Larger images are reduced to this many pixels."""

_MOST_ROWS = 3


@dataclass(frozen=True)
class Mistake:
    """Image with a wrong prediction.

    Attributes:
        severity: see `Task.severity`.
        pixels: uint8 [C, H, W].
        target: for people.
        prediction: names and values of the prediction, for people.
    """

    severity: float
    pixels: Tensor
    target: str
    prediction: list[tuple[str, str]]


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
            pixels = self._pixels(batch.images[chosen[index]])
            self.found.append(Mistake(float(values[index]), pixels, target, rows))
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
                "image": image_url(one.pixels),
            }
            for one in self.found
        ]
        content = {"split": split, "order": self._task.severity_text, "images": images}
        replace_text(path, json.dumps(content, indent=1) + "\n")

    def _pixels(self, image: Tensor) -> Tensor:
        mean = torch.tensor(self._data.mean)[:, None, None]
        std = torch.tensor(self._data.std)[:, None, None]
        return ((image.detach().float().cpu() * std + mean).clamp(0, 1) * 255).round().to(torch.uint8)


def image_url(pixels: Tensor) -> str:
    """Return an image, uint8 [C, H, W], as a data URL of a PNG; other than 1 or 3 channels are averaged."""
    if pixels.shape[0] not in (1, 3):
        pixels = pixels.float().mean(0, keepdim=True).to(torch.uint8)
    array = pixels.permute(1, 2, 0).numpy()
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    file = BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
