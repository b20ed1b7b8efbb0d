"""convoy probe: metrics of a linear layer on a layer's features."""

from __future__ import annotations

from dataclasses import dataclass

from convoy.commands.declaration.run_verbs import LayerVerb
from convoy.commands.declaration.verb import Call


@dataclass(frozen=True)
class Probe(LayerVerb):
    """Fit a linear layer to the features of a layer.

    The features are those of train without augmentation; the regularization is
    chosen on val. The task's metrics are printed and written to
    probe-<data>-<layer>.json in the run's folder.

      convoy probe run=latest
      convoy probe run=outputs/vgg16/<run> layer=fc7
      convoy probe run=outputs/resnet20/<run> data=mnist
    """


ARGUMENTS = Probe


def run(given: Probe, call: Call) -> int:
    """Probe the layer."""
    from convoy.evaluation.linear_probe import probe_run

    probe_run(given.source(call))
    return 0
