"""convoy filters: images of the first layer's filters and of the regions that support predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from convoy.commands.declaration.run_verbs import TrainedRunVerb
from convoy.commands.declaration.verb import AtLeast, Split


@dataclass(frozen=True)
class Filters(TrainedRunVerb):
    """Draw the filters and class activation maps of a run's network.

    Writes filters.png, the filters of the first convolution, and
    activation_maps.png, images overlaid with the evidence for the prediction.

      convoy filters run=latest
      convoy filters run=outputs/alexnet/<run> images=16
    """

    images: Annotated[int, AtLeast(0)] = 8
    """Number of images with an activation map; 0 for none."""
    split: Split | None = None
    """Split of the images; null for test, or val if there is no test split."""
    output: Path | None = None
    """Folder to write to; null for report/ in the run's folder."""

    folder_keys = ("output", "output_root")


ARGUMENTS = Filters


def run(given: Filters) -> int:
    """Draw the figures and print their paths."""
    from convoy.records.console import Console
    from convoy.report.run_figures import draw_run
    from convoy.runs.layout import shown

    Console().log_to(None)
    for path in draw_run(given.open(), images=given.images, split=given.split, output=given.output):
        print(shown(path))
    return 0
