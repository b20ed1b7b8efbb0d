"""convoy features: outputs of a layer for the images of a data set, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from convoy.commands.verb import RUN_OVERRIDES, Call, Split, Verb

if TYPE_CHECKING:
    from convoy.evaluation.feature_arrays import FeatureRequest


@dataclass(frozen=True)
class LayerOfRun(Verb):
    """Layer of a run's network."""

    run: str
    """Folder of a run, or latest."""
    layer: str | None = None
    """penultimate (the input of the last layer), fc1, fc2, ... (in AlexNet and
    VGG also fc6, fc7, fc8) after their activation, or a module that
    convoy ledger lists; null: penultimate."""
    checkpoint: str = "best"
    """best, last, or a file."""
    output_root: str = "outputs"
    """Folder in which latest is looked up."""

    overrides = RUN_OVERRIDES

    def request(self, overrides: list[str]) -> FeatureRequest:
        """Return the layer with overrides of the run's config."""
        from convoy.evaluation.feature_arrays import FeatureRequest

        return FeatureRequest(self.run, self.checkpoint, self.layer, self.output_root, tuple(overrides))


@dataclass(frozen=True)
class Features(LayerOfRun):
    """Write features.npy, float32, one row per image in the split's order,
    labels.npy, and features.json, which describes them. Another data set is
    prepared with the run's image size, channels and normalization.

      convoy features run=latest
      convoy features run=outputs/alexnet/<run> layer=fc7 split=train
      convoy features run=latest layer=layer3 data=cifar10
    """

    split: Split = "test"
    """train (without augmentation), val or test."""
    output: Path | None = None
    """Folder to write to; null: features/ in the run's folder."""


ARGUMENTS = Features


def run(given: Features, call: Call) -> int:
    """Write the features."""
    from convoy.evaluation.feature_arrays import write_features

    write_features(given.request(call.overrides), given.split, given.output, call.options)
    return 0
