"""convoy filters: pictures of a run's first layer, and of the image regions that support its predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from convoy.commands.run_verbs import TrainedRunVerb
from convoy.commands.verb import AtLeast, Split


@dataclass(frozen=True)
class Filters(TrainedRunVerb):
    """Draw filters.png, the filters of the first convolution, and
    activation_maps.png, images under the map of the evidence for the prediction.

      convoy filters run=latest
      convoy filters run=outputs/alexnet/<run> images=16
    """

    images: Annotated[int, AtLeast(0)] = 8
    """Number of images with an activation map; 0: none."""
    split: Split | None = None
    """Split of the images; null: test, or val where there is no test."""
    output: Path | None = None
    """Folder to write to; null: report/ in the run's folder."""


ARGUMENTS = Filters


def run(given: Filters) -> int:
    """Draw the pictures and print their paths."""
    from convoy.records.console import Console
    from convoy.report.run_figures import draw_run
    from convoy.runs.layout import shown

    Console().log_to(None)
    for path in draw_run(given.open(), images=given.images, split=given.split, output=given.output):
        print(shown(path))
    return 0
