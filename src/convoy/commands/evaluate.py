"""convoy evaluate: a run's metrics once more, on any split or another data set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from convoy.commands import arguments
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.options import Options

SPLITS = ("train", "val", "test")
WEIGHTS = ("equal", "val")
FORMATS = ("table", "json")
_KEYS = ("run", "runs", "split", "checkpoint", "weights", "--format")

_HELP = """\
usage: convoy evaluate run=<run folder> [split=test] [checkpoint=best]
                       [key=value ...]
       convoy evaluate runs=[<run folder>,...] [split=test] [weights=equal]
                       [--format table|json] [key=value ...]

  convoy evaluate run=outputs/lenet5/<run>
  convoy evaluate run=latest split=val checkpoint=last
  convoy evaluate run=latest data=mnist
  convoy evaluate runs=[outputs/a/<run>,outputs/b/<run>,outputs/c/<run>]

  run         a run's folder, or latest
  split       train (without augmentation), val or test
  checkpoint  best, last, or a file
  runs        several, alone and as the mean of their probabilities
  weights     of that mean: equal, or val (learned on the val split)
  key=value   overrides of the run's config: data, trainer and hardware

Of one run it writes evaluation-<data>-<split>.json into the run's folder and
prints it as a table; of several it prints each one's errors and the ensemble's."""


@dataclass
class Request:
    """What is to be evaluated: a run's folder or "latest", or several runs; a split, a checkpoint, and overrides of
    their config."""

    run: str | None = None
    runs: list[str] = field(default_factory=list)
    weights: str = "equal"
    format: str = "table"
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
    if request.runs:
        return _together(request, parsed.options)
    from convoy.evaluation.run_evaluation import evaluate

    assert request.run is not None
    evaluate(request.run, request.split, request.checkpoint, request.overrides, parsed.options)
    return 0


def _together(request: Request, options: Options) -> int:
    from convoy.evaluation.ensemble import as_data, evaluate_together, print_ensemble

    ensemble = evaluate_together(
        request.runs, request.split, request.checkpoint, request.weights, request.overrides, options
    )
    if request.format == "json":
        print(json.dumps(as_data(ensemble), indent=2))
    else:
        print_ensemble(ensemble)
    return 0


def read(overrides: Sequence[str]) -> Request:
    """Sort this verb's own words from overrides of the run's config.

    Raises:
        UserError: with every fault of the verb's own words.
    """
    request, faults = Request(), []
    rest = list(overrides)
    while rest:
        text = rest.pop(0)
        key, sign, value = text.partition("=")
        if key in ("run", "split", "checkpoint", "weights") and sign:
            setattr(request, key, value)
        elif key == "runs" and sign:
            request.runs = [one.strip() for one in value.strip("[]").split(",") if one.strip()]
        elif key == "--format":
            request.format = value if sign else rest.pop(0) if rest else ""
        elif key in ("model", "optimizer", "scheduler", "experiment", "resume", "folder", "name"):
            remedy = "give data, trainer or hardware; another model is another run"
            faults.append(Fault(key, "is not evaluate's to choose", remedy, value))
        elif "." not in key and key not in ("data", "trainer", "hardware", "seed", "output_root"):
            near = did_you_mean(key, _KEYS, f"it has {', '.join(_KEYS)}, and overrides such as data=…")
            faults.append(Fault(key, "evaluate has no such key", near, value if sign else None))
        else:
            request.overrides.append(text)
    if not request.run and not request.runs and not faults:
        faults.append(Fault("run", "must be set", "write run=<run folder> or run=latest"))
    faults += _faults(request)
    if faults:
        raise UserError(*faults)
    return request


def _faults(request: Request) -> Iterator[Fault]:
    if request.runs:
        listed = ",".join(request.runs)
        if len(request.runs) < 2:
            yield Fault("runs", "names several", "write runs=[a,b,c], or run=… for one", listed)
        if len(set(request.runs)) < len(request.runs):
            yield Fault("runs", "names a run twice", "name each once", listed)
        if request.run:
            yield Fault("run", "stands beside runs", "write one of them", request.run)
    elif request.run:
        if "," in request.run:
            yield Fault("run", "names one run", f"write runs=[{request.run.strip('[]')}]", request.run)
        for key, value, remedy in (
            ("weights", request.weights, "leave it out, or write runs=[a,b,c]"),
            ("--format", request.format, "leave it out: the run's folder has it as evaluation-<data>-<split>.json"),
        ):
            if value not in ("equal", "table"):
                yield Fault(key, "is of several runs", remedy, value)
    choices = {"split": SPLITS, "weights": WEIGHTS, "format": FORMATS}
    for key, allowed in choices.items():
        value = getattr(request, key)
        if value not in allowed:
            remedy = did_you_mean(value, allowed, f"one of {', '.join(allowed)}")
            yield Fault("--format" if key == "format" else key, f"no such {key}", remedy, value)
