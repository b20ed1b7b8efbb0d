"""What is compared: networks with what was published of them, or runs with what they measured."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.options import CONF
from convoy.evaluation.published import SETS, Published, published
from convoy.models.build import construct_model
from convoy.planner.config_ledger import ledger_of
from convoy.runs.layout import find, shown
from convoy.training import preflight

FAMILIES = {
    "LeNet to ZFNet": r"alexnet|zfnet|lenet",
    "VGG": r"vgg",
    "Inception": r"googlenet|inception",
    "DenseNet": r"densenet",
    "found by search": r"nasnet|pnasnet|mnasnet|amoebanet|efficientnet",
    "mobile": r"mobilenet|shufflenet|squeezenet",
    "ResNet": r"(wide_|se|preact_)?resnet|resnext|senet|plain",
}
"""A pattern that the start of a model's name fits, the first that does."""

OTHERS = "others"
SPEED_BATCH = 8
_SPEED_SECONDS = 2.0
_FEWEST_PASSES = 3


@dataclass(frozen=True)
class Entry:
    """A network in the comparison.

    Attributes:
        name: the option's, or the run's.
        family: a key of `FAMILIES`, or `OTHERS`.
        image_size: side of the images, in pixels.
        params: parameters.
        macs: multiply-accumulates of a forward pass of one image.
        kept_bytes: what autograd keeps of one image for the backward pass, in float32 unless a run was in another.
        top1: share of images, 0 to 1; None where no accuracy is known.
        source: where the accuracy comes from.
        images_per_s: measured; None where it wasn't.
    """

    name: str
    family: str
    image_size: int
    params: int
    macs: int
    kept_bytes: int
    top1: float | None
    source: str
    images_per_s: float | None = None


def family_of(name: str) -> str:
    """The family that a model of this name belongs to."""
    return next((family for family, pattern in FAMILIES.items() if re.match(pattern, name)), OTHERS)


def zoo(data: str) -> dict[str, Published]:
    """The options of conf/model that an accuracy on `data` was published of, in the order of that accuracy."""
    found = {path.stem: published(path) for path in sorted((CONF / "model").glob("*.yaml"))}
    on_data = {name: each for name, each in found.items() if each is not None and each.data == data}
    return dict(sorted(on_data.items(), key=lambda pair: pair[1].top1))


def chosen(models: Sequence[str], data: str) -> dict[str, Published]:
    """The published figures of the models named; of all, where none is named.

    Raises:
        UserError: with each that isn't there, or of which nothing was published on `data`.
    """
    known = zoo(data)
    if not models:
        return known
    faults = []
    for name in models:
        if name not in known and (CONF / "model" / f"{name}.yaml").is_file():
            others = [title for option, title in SETS.items() if name in zoo(option)]
            rule = f"nothing was published of it on {SETS[data]}"
            faults.append(Fault("models", rule, f"but on {others[0]}" if others else "leave it out", name))
        elif name not in known:
            near = did_you_mean(name, known, "convoy train --help model lists them")
            faults.append(Fault("models", "no such model", near, name))
    if faults:
        raise UserError(*faults)
    return {name: known[name] for name in models}


def from_zoo(figures: dict[str, Published], *, measure: bool) -> Iterator[Entry]:
    """An entry for each, counted on the spot; with `measure`, forward passes are timed here."""
    for name, each in figures.items():
        words = [f"model={name}", f"data={each.data}", f"data.image_size={each.image_size}", "data.eval_resize=null"]
        config = preflight.read([*words, "trainer.precision=32", "trainer.gpus=0"], to_run=False)
        ledger = ledger_of(config)
        count, macs, kept = (ledger.total(column) for column in ("params", "macs", "saved_bytes"))
        speed = None
        if measure:
            speed = _images_per_s(config.model, config.data.channels, each.image_size, config.data.num_classes or 0)
        yield Entry(name, family_of(name), each.image_size, count, macs, kept, each.top1, each.source, speed)


def from_runs(runs: Iterable[str], output_root: str) -> Iterator[Entry]:
    """An entry for each run, from the files in its folder: its test accuracy (val where there was no test), its
    ledger, and the images/s of its training.

    Raises:
        UserError: there is no such run, or it has not ended.
    """
    for text in runs:
        try:
            run, _ = find(text, Path(output_root))
        except UserError as error:
            faults = (Fault("runs", fault.rule, fault.remedy, fault.value) for fault in error.faults)
            raise UserError(*faults) from error
        try:
            summary = json.loads(run.summary.read_text(encoding="utf-8"))
            totals = json.loads(run.ledger_json.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            rule = "has no summary.json and ledger.json that can be read"
            raise UserError(Fault("runs", rule, "compare runs that have ended", text)) from error
        split = next((split for split in ("test", "val") if summary.get(f"{split}/top1") is not None), None)
        model = str(run.saved_config()["model"].get("name", ""))
        yield Entry(
            shown(run.path) if summary["name"] == model else str(summary["name"]),
            family_of(model),
            int(totals["input_shape"][-1]),
            int(totals["totals"]["params"]),
            int(totals["totals"]["macs"]),
            int(totals["totals"]["saved_bytes"]),
            None if split is None else float(summary[f"{split}/top1"]),
            "" if split is None else f"{run.saved_config()['data']['name']} {split}",
            summary.get("images_per_s"),
        )


def _images_per_s(model: dict[str, object], channels: int, image_size: int, num_classes: int) -> float:
    """Of forward passes on the CPU in float32 with batches of `SPEED_BATCH`: the median of two seconds' worth."""
    network = construct_model(
        {key: value for key, value in model.items() if key != "pretrained"},
        num_classes=num_classes,
        in_channels=channels,
        image_size=image_size,
    )
    network = network.eval().to(memory_format=torch.channels_last)
    images = torch.rand(SPEED_BATCH, channels, image_size, image_size).to(memory_format=torch.channels_last)
    taken: list[float] = []
    with torch.inference_mode():
        network(images)
        while len(taken) < _FEWEST_PASSES or sum(taken) < _SPEED_SECONDS:
            start = time.perf_counter()
            network(images)
            taken.append(time.perf_counter() - start)
    return SPEED_BATCH / statistics.median(taken)
