"""convoy probe: how well a linear classifier does on a layer's features."""

from __future__ import annotations

from collections.abc import Sequence

from convoy.commands import arguments, features

_HELP = """\
usage: convoy probe run=<run folder> [layer=penultimate] [checkpoint=best]
                    [key=value ...]

  convoy probe run=latest
  convoy probe run=outputs/vgg16/<run> layer=fc7
  convoy probe run=outputs/resnet20/<run> data=mnist

  run         a run's folder, or latest
  layer       as in convoy features
  checkpoint  best, last, or a file
  key=value   overrides of the run's config: data, trainer and hardware

A logistic regression is fitted to the features of train, without
augmentation; how strongly it is regularized is chosen on val. The accuracies
are printed and written to probe-<data>-<layer>.json in the run's folder."""


def run(words: Sequence[str]) -> int:
    """Probe what the words name."""
    parsed = arguments.parse(words)
    if parsed.help:
        print(_HELP)
        return 0
    own, overrides = features.read(parsed.overrides, (), "probe")
    from convoy.evaluation.linear_probe import probe_run

    probe_run(features.request(own, overrides), parsed.options)
    return 0
