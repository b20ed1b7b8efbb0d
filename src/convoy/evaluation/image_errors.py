"""Error of each image of a split, to find the worst ones."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import torch

from convoy.config.faults import Fault, UserError
from convoy.config.options import Options
from convoy.evaluation.run_evaluation import Evaluation
from convoy.evaluation.trained_run import TrainedRun
from convoy.runs.whole_files import replace_text


def image_errors(
    run: TrainedRun, split: str, overrides: Sequence[str], options: Options | None = None
) -> list[tuple[str, float]]:
    """Return the name of each image and how wrong its prediction is (`Task.severity`), the largest error first.

    Args:
        run: the trained network.
        split: train (without augmentation), val or test.
        overrides: overrides of the run's config.
        options: folders of the options.

    Raises:
        UserError: the task does not define the error of an image, or images were skipped.
    """
    opened = Evaluation.open(run, split, overrides, options)
    task, network = opened.module.task, run.network.to(opened.data.device).eval()
    errors: list[float] = []
    with torch.inference_mode(), opened.data.autocast():
        for batch in opened.data.batches(split):
            severity = task.severity(task.outputs(network, batch.images), batch.targets)
            if severity is None:
                rule = f"{type(task).__name__} does not say how wrong the prediction for an image is"
                raise UserError(Fault("per_image", rule, "omit per_image"))
            errors += severity.float().tolist()
    names = opened.data.images.image_names(split)
    if len(names) != len(errors):
        rule = f"{len(names) - len(errors)} images of {split} can't be decoded and were skipped"
        raise UserError(Fault("per_image", rule, "remove or replace them, which convoy data lists"))
    return sorted(zip(names, errors, strict=True), key=lambda pair: -pair[1])


def write_image_errors(errors: Sequence[tuple[str, float]], path: Path) -> None:
    """Write the errors as a CSV file with the columns image and error."""
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow(("image", "error"))
    writer.writerows((name, f"{error:.9g}") for name, error in errors)
    replace_text(path, content.getvalue())
