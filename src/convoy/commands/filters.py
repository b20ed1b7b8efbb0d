"""convoy filters: what a run's first layer looks for, and where it looks in images."""

from __future__ import annotations

from collections.abc import Sequence

from convoy.commands import arguments
from convoy.config.faults import Fault, UserError, did_you_mean

SPLITS = ("train", "val", "test")
_KEYS = ("run", "checkpoint", "images", "split", "output", "output_root")

_HELP = """\
usage: convoy filters run=<run folder> [checkpoint=best] [images=8]
                      [split=test] [output=<folder>]

  convoy filters run=latest
  convoy filters run=outputs/alexnet/<run> images=16

  run         a run's folder, or latest
  checkpoint  best, last, or a file
  images      how many get a class activation map; 0: none
  split       from which they are: test (val where there is none), val, train
  output      the folder; else report/ in the run's folder

It draws filters.png, the filters of the first convolution, and
activation_maps.png, images under the map of the class that the network finds
most probable."""


def run(words: Sequence[str]) -> int:
    """Draw what the words ask for."""
    parsed = arguments.parse(words)
    if parsed.help:
        print(_HELP)
        return 0
    own = read(parsed.overrides)
    from convoy.records.console import Console
    from convoy.report.run_figures import Request, draw_run
    from convoy.runs.layout import shown

    Console().log_to(None)
    texts = {key: value for key, value in own.items() if key != "images"}
    for path in draw_run(Request(**texts, images=int(own.get("images", "8")))):
        print(shown(path))
    return 0


def read(words: Sequence[str]) -> dict[str, str]:
    """The words by their keys, checked.

    Raises:
        UserError: with every fault of the words.
    """
    own, faults = arguments.sort(words, _KEYS, "filters")
    images, split = own.get("images", "8"), own.get("split", "test")
    if not images.isdecimal():
        faults.append(Fault("images", "must be a number, 0 or more", "", images))
    if split not in SPLITS:
        faults.append(Fault("split", "no such split", did_you_mean(split, SPLITS, ", ".join(SPLITS)), split))
    if faults:
        raise UserError(*faults)
    return own
