"""Console script `convoy`: runs a verb, and reports mistakes of the user in one message."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import NoReturn

from convoy import __version__
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.runs.os_errors import described, is_fault_of_environment, remedy
from convoy.runtime.garbage_collection import collect_rarely, without_collector
from convoy.runtime.lazy_imports import defer_unused
from convoy.runtime.process_end import end_with
from convoy.runtime.stop_signals import StopSignal, raised

VERBS = {
    "train": ("train a network", "convoy train model=resnet18 data=fashion_mnist"),
    "data": ("look at a data set before training", "convoy data data=/path/to/images output=examples.html"),
    "pack": ("pack an image folder into shards", "convoy pack data=image_folder data.root=photos output=photos256"),
    "index": ("index tar files of WebDataset for data=shards", "convoy index tars=/data/tars"),
    "ledger": ("print memory and parameters layer by layer", "convoy ledger model=vgg16 data=imagenet"),
    "plan": ("predict the peak GPU memory of a training", "convoy plan model=resnet50 data=imagenet hardware=v100"),
    "calibrate": ("measure a GPU for the planner", "convoy calibrate hardware=a100 model=resnet50 data=imagenet"),
    "lr": ("suggest a learning rate by a range test", "convoy lr model=resnet20 data=cifar10 output=range"),
    "runs": ("list, show, compare and clean runs", "convoy runs state=failed"),
    "evaluate": ("evaluate a run on any split or data set", "convoy evaluate run=outputs/lenet5/<run> split=val"),
    "export": ("export a run's network to a file", "convoy export run=latest format=onnx"),
    "predict": ("predict the targets of images", "convoy predict run=latest images/*.png"),
    "features": ("write a layer's features of a data set", "convoy features run=latest layer=fc7 split=train"),
    "probe": ("fit a linear layer to a layer's features", "convoy probe run=latest data=fashion_mnist"),
    "filters": ("draw filters and class activation maps", "convoy filters run=latest"),
    "search": ("search for the best values of config keys", "convoy search study=digits_lr"),
    "report": ("write a page of a run or a sweep", "convoy report run=latest"),
    "models": ("list networks with size, cost and accuracy", "convoy models 'resnet*' sort=macs"),
    "compare": ("compare accuracy and complexity of networks", "convoy compare vgg16 resnet50 output=two.png"),
    "submit": ("queue a run or a sweep", "convoy submit hardware=a100 model=vgg16 time=4:00:00"),
    "jobs": ("list submitted jobs and their states", "convoy jobs"),
    "cancel": ("end queued or running jobs", "convoy cancel 1234"),
    "sync": ("send W&B records that were stored offline", "convoy sync"),
    "completion": ("complete verbs, keys and options in a shell", "source <(convoy completion bash)"),
    "slurm": ("write the batch scripts of slurm/", "convoy slurm render"),
}
"""Purpose of each verb, and an example. The module of a verb is convoy.commands.<verb>, with a function `run`."""

ACTIONS = {"runs": ("show", "diff", "clean")}
"""Words after a verb that are verbs themselves. The module of an action is convoy.commands.<verb>_<action>."""

USER_ERROR = 2

_KEPT = {"pack": "complete shards are kept"}
"""Output of a stopped verb that remains on disk. A run and a sweep print their own message."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb and return its exit code: 0 done, 2 mistake of the user, 128 + n stopped by signal n, else 1."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(f"convoy {__version__}")
        return 0
    defer_unused()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # File names can contain bytes that are not UTF-8, and a terminal may support only ASCII.
            stream.reconfigure(errors="backslashreplace")
    try:
        with raised():
            return _run(words[0], words[1:])
    except UserError as error:
        print(error_text(error), file=sys.stderr)
        return USER_ERROR
    except StopSignal as stop:
        kept = _KEPT.get(words[0], "nothing is kept")
        print(f"{stop}; {kept}; to start again: {shlex.join(['convoy', *words])}", file=sys.stderr)
        return stop.exit_code
    except BrokenPipeError:
        # The reader closed the pipe (convoy train --help | head).
        sys.stderr.close()
        return 1
    except OSError as error:
        if not is_fault_of_environment(error):
            raise
        print(f"error: {described(error)}; {remedy(error)}", file=sys.stderr)
        return 1


def overview() -> str:
    """Return an overview of the verbs with one example each."""
    lines = ["Convoy: train convolutional networks from YAML.", "", "usage: convoy <verb> [key=value ...]", ""]
    for verb, (what, example) in VERBS.items():
        lines += [f"  {verb:<10} {what}", f"             {example}"]
    lines += ["", "convoy <verb> --help explains a verb; convoy train --help lists all groups."]
    return "\n".join(lines)


def error_text(error: UserError) -> str:
    """Return the faults of a mistake, one per line."""
    if len(error.faults) == 1:
        return f"error: {error.faults[0]}"
    return "\n".join([f"{len(error.faults)} errors:", *(f"  {fault}" for fault in error.faults)])


def _run(word: str, words: Sequence[str]) -> int:
    """Run a verb with declared arguments (`ARGUMENTS`), or a verb that parses its words."""
    if word not in VERBS:
        near = did_you_mean(word, VERBS, f"verbs: {', '.join(VERBS)}; convoy train {word} …?")
        raise UserError(Fault(word, "no such verb", near))
    if words and words[0] in ACTIONS.get(word, ()):
        word, words = f"{word}_{words[0]}", words[1:]
    with without_collector():
        module = import_module(f"convoy.commands.{word}")
    kind = getattr(module, "ARGUMENTS", None)
    if kind is None:
        return int(module.run(words))
    from convoy.commands.declaration import arguments, verb

    parsed = arguments.parse(words)
    if parsed.help:
        print(verb.help_text(kind))
        return 0
    given, call = verb.read(kind, parsed)
    return int(module.run(given, call) if kind.overrides != () else module.run(given))


def command() -> NoReturn:
    """Run the process of a command line."""
    collect_rarely()
    end_with(main)


if __name__ == "__main__":
    command()
