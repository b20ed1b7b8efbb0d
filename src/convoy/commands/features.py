"""convoy features: what a layer makes of the images of a set, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convoy.commands import arguments
from convoy.config.faults import Fault, UserError, did_you_mean

if TYPE_CHECKING:
    from convoy.evaluation.feature_arrays import Request

SPLITS = ("train", "val", "test")

_HELP = """\
usage: convoy features run=<run folder> [layer=penultimate] [split=test]
                       [checkpoint=best] [output=<folder>] [key=value ...]

  convoy features run=latest
  convoy features run=outputs/alexnet/<run> layer=fc7 split=train
  convoy features run=latest layer=layer3 data=cifar10

  run         a run's folder, or latest
  layer       penultimate, what the last layer gets; fc1, fc2, ... (in AlexNet
              and VGG also fc6, fc7, fc8) after their activation; or a module
              that convoy ledger shows
  split       train (without augmentation), val or test
  checkpoint  best, last, or a file
  output      the folder; else features/ in the run's folder
  key=value   overrides of the run's config: data, trainer and hardware

It writes features.npy, float32, a row an image in the split's order,
labels.npy, and features.json, which says what they are. Another data set
comes in the run's image size, channels and normalization."""


def run(words: Sequence[str]) -> int:
    """Write the features that the words ask for."""
    parsed = arguments.parse(words)
    if parsed.help:
        print(_HELP)
        return 0
    own, overrides = read(parsed.overrides, ("split", "output"), "features")
    split = own.get("split", "test")
    if split not in SPLITS:
        raise UserError(Fault("split", "no such split", did_you_mean(split, SPLITS, ", ".join(SPLITS)), split))
    from convoy.evaluation.feature_arrays import write_features

    write_features(request(own, overrides), split, own.get("output"), parsed.options)
    return 0


def read(words: Sequence[str], more_keys: Sequence[str], verb: str) -> tuple[dict[str, str], list[str]]:
    """The verb's own words by their keys, and the overrides of the run's config.

    Args:
        words: as typed, without flags.
        more_keys: that the verb has besides run, checkpoint, layer and output_root.
        verb: for messages.

    Raises:
        UserError: with every fault of the verb's own words.
    """
    keys = ("run", "checkpoint", "layer", "output_root", *more_keys)
    own: dict[str, str] = {}
    overrides, faults = [], []
    for text in words:
        key, sign, value = text.partition("=")
        if key in keys and sign and value:
            own[key] = value
        elif key in keys:
            faults.append(Fault(key, "needs a value", f"write {key}=…"))
        elif key.split(".")[0] in ("model", "optimizer", "scheduler", "experiment", "resume", "folder", "name"):
            remedy = "give data, trainer or hardware; another model is another run"
            faults.append(Fault(key, f"is not {verb}'s to choose", remedy, value))
        elif "." not in key and key not in ("data", "trainer", "hardware", "seed"):
            near = did_you_mean(key, keys, f"it has {', '.join(keys)}, and overrides such as data=…")
            faults.append(Fault(key, f"{verb} has no such key", near, value if sign else None))
        else:
            overrides.append(text)
    if "run" not in own and not any(fault.key == "run" for fault in faults):
        faults.append(Fault("run", "must be set", "write run=<run folder> or run=latest"))
    if faults:
        raise UserError(*faults)
    return own, overrides


def request(own: dict[str, str], overrides: Sequence[str]) -> Request:
    """What `read` found, for the deploy room."""
    from convoy.evaluation.feature_arrays import Request

    chosen = {key: own[key] for key in ("checkpoint", "layer", "output_root") if key in own}
    return Request(own["run"], overrides=tuple(overrides), **chosen)
