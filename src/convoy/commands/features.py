"""convoy features: outputs of a layer for the images of a data set, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convoy.commands.declaration.run_verbs import LayerVerb
from convoy.commands.declaration.verb import Call, Split


@dataclass(frozen=True)
class Features(LayerVerb):
    """Write the features of a split: the outputs of a layer as arrays.

    Writes features.npy (float32, one row per image in the split's order),
    targets.npy, and features.json, which describes them. Another data set is
    prepared with the run's image size, channels and normalization.

      convoy features run=latest
      convoy features run=outputs/alexnet/<run> layer=fc7 split=train
      convoy features run=latest layer=layer3 data=cifar10
    """

    split: Split = "test"
    """train (without augmentation), val or test."""
    output: Path | None = None
    """Folder to write to; null for features/ in the run's folder."""

    folder_keys = ("output", "output_root")


ARGUMENTS = Features


def run(given: Features, call: Call) -> int:
    """Write the features."""
    from convoy.evaluation.feature_arrays import write_features

    write_features(given.source(call), given.split, given.output)
    return 0
