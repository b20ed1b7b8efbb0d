"""convoy evaluate: a run's metrics once more, on any split or another data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from convoy.commands import arguments
from convoy.config.faults import Fault, UserError, did_you_mean

SPLITS = ("train", "val", "test")

_HELP = """\
usage: convoy evaluate run=<run folder> [split=test] [checkpoint=best] [key=value ...]

  convoy evaluate run=outputs/lenet5/<run>
  convoy evaluate run=latest split=val checkpoint=last
  convoy evaluate run=latest data=mnist

  run         a run's folder, or latest
  split       train (without augmentation), val or test
  checkpoint  best, last, or a file
  key=value   overrides of the run's config: data, trainer and hardware

Writes evaluation-<data>-<split>.json into the run's folder and prints it as a table."""


@dataclass
class Request:
    """What is to be evaluated: a run's folder or "latest", a split, a checkpoint, and overrides of its config."""

    run: str | None = None
    split: str = "test"
    checkpoint: str = "best"
    overrides: list[str] = field(default_factory=list)


def run(words: Sequence[str]) -> int:
    """Evaluate what the words name."""
    parsed = arguments.parse(words)
    if parsed.help:
        print(_HELP)
        return 0
    request = read(parsed.overrides)
    from convoy.training.evaluate import evaluate

    assert request.run is not None
    evaluate(request.run, request.split, request.checkpoint, request.overrides, parsed.options)
    return 0


def read(overrides: Sequence[str]) -> Request:
    """Sort this verb's own words from overrides of the run's config.

    Raises:
        UserError: no run is named, or no such split.
    """
    request, faults = Request(), []
    for text in overrides:
        key, sign, value = text.partition("=")
        if key in ("run", "split", "checkpoint") and sign:
            setattr(request, key, value)
        elif key in ("model", "optimizer", "scheduler", "experiment", "resume", "folder", "name"):
            remedy = "give data, trainer or hardware; another model is another run"
            faults.append(Fault(key, "is not evaluate's to choose", remedy, value))
        else:
            request.overrides.append(text)
    if not request.run:
        faults.append(Fault("run", "must be set", "write run=<run folder> or run=latest"))
    if request.split not in SPLITS:
        remedy = did_you_mean(request.split, SPLITS, f"one of {', '.join(SPLITS)}")
        faults.append(Fault("split", "no such split", remedy, request.split))
    if faults:
        raise UserError(*faults)
    return request
