"""convoy export: a run's network as a file for others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convoy.commands import arguments
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.runs.layout import EXPORT_SUFFIXES

_KEYS = ("run", "checkpoint", "format", "fold_bn", "output", "images", "output_root")

_HELP = """\
usage: convoy export run=<run folder> [checkpoint=best] [format=safetensors]
                     [fold_bn=true] [output=<file>] [images=all]

  convoy export run=latest
  convoy export run=latest format=onnx
  convoy export run=outputs/resnet18/<run> output=clothes.pt2

  run         a run's folder, or latest
  checkpoint  best, last, or a file
  format      safetensors (weights for Convoy), onnx, or torch_export (.pt2);
              follows from output where it isn't given
  fold_bn     batch norm folded into the layer before it
  output      the file; else export/ in the run's folder
  images      on how many test images it is checked

The file is opened again and held against the network as it was trained, on
the test images: where one prediction differs, nothing is written. It keeps
how images are prepared and the classes, so that convoy predict needs
nothing else. docs/export.md tells more."""


def run(words: Sequence[str]) -> int:
    """Export what the words name."""
    parsed = arguments.parse(words)
    if parsed.help:
        print(_HELP)
        return 0
    values = read(parsed.overrides)
    from convoy.export.run_export import Request, export

    images = None if values["images"] == "all" else int(values["images"])
    export(
        Request(
            run=values["run"],
            checkpoint=values["checkpoint"],
            format=values["format"],
            fold_bn=values["fold_bn"] == "true",
            output=values.get("output"),
            images=images,
            output_root=values["output_root"],
        )
    )
    return 0


def read(words: Sequence[str]) -> dict[str, str]:
    """The verb's words by their keys, checked, with what holds where nothing is said.

    Raises:
        UserError: with every fault of the words.
    """
    given, faults = arguments.sort(words, _KEYS, "export")
    output = given.get("output")
    by_suffix = {suffix: name for name, suffix in EXPORT_SUFFIXES.items()}.get(Path(output or "").suffix)
    chosen = given.setdefault("format", by_suffix or "safetensors")
    if chosen not in EXPORT_SUFFIXES:
        near = did_you_mean(chosen, EXPORT_SUFFIXES, f"choose from {', '.join(EXPORT_SUFFIXES)}")
        faults.append(Fault("format", "no such format", near, chosen))
    elif output is not None and by_suffix != chosen:
        rule = f"a file of format={chosen} ends in {EXPORT_SUFFIXES[chosen]}"
        faults.append(
            Fault("output", rule, f"write output={Path(output).with_suffix(EXPORT_SUFFIXES[chosen])}", output)
        )
    if given.setdefault("fold_bn", "true") not in ("true", "false"):
        faults.append(Fault("fold_bn", "must be true or false", "", given["fold_bn"]))
    images = given.setdefault("images", "all")
    if images != "all" and not (images.isdecimal() and int(images)):
        faults.append(Fault("images", "must be all or a number, at least 1", "", images))
    if faults:
        raise UserError(*faults)
    return {"checkpoint": "best", "output_root": "outputs", **given}
