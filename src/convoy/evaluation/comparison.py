"""Entries of a comparison: networks with their published accuracies, or runs with their measured ones."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from convoy.config.cards import BENCHMARKS, ModelCard, read_cards
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.image_size import ImageSize, Sides, sides_of
from convoy.config.schema import Config
from convoy.models.building.build import construct_model
from convoy.planner.config_ledger import ledger_of
from convoy.planner.workload import model_sizes
from convoy.runs.layout import shown
from convoy.runs.lookup import find_run
from convoy.training import preflight

OTHERS = "others"
"""Family of networks without a card."""
PUBLISHED = "top-1"
"""Metric of the published accuracies."""
SPEED_BATCH = 8
_SPEED_SECONDS = 2.0
_FEWEST_PASSES = 3


@dataclass(frozen=True)
class Entry:
    """Network in a comparison.

    Attributes:
        name: name of the option or of the run.
        family: family on the network's card, or `OTHERS`.
        image_size: size of the images.
        params: number of parameters.
        macs: multiply-accumulates of a forward pass of one image.
        kept_bytes: bytes that autograd saves per image for the backward pass; in float32, or in a run's precision.
        metric: name of the metric that measures quality; None if there is none.
        value: value of the metric.
        is_fraction: whether the value is a fraction, printed in percent.
        source: source of the value.
        images_per_s: measured speed; None if it was not measured.
    """

    name: str
    family: str
    image_size: ImageSize
    params: int
    macs: int
    kept_bytes: int
    metric: str | None
    value: float | None
    is_fraction: bool
    source: str
    images_per_s: float | None = None


def family_of(name: str) -> str:
    """Return the family of a network by its name, or `OTHERS` for a network without a card."""
    card = read_cards(ModelCard).get(name)
    return card.family if card else OTHERS


def published_on(data: str) -> dict[str, ModelCard]:
    """Return the cards with an accuracy published on `data`, by option name, in ascending order of that accuracy."""
    found = [
        (each.accuracy, name, card) for name, card in read_cards(ModelCard).items() if (each := card.published_on(data))
    ]
    return {name: card for _, name, card in sorted(found, key=lambda one: one[:2])}


def chosen(models: Sequence[str], data: str) -> dict[str, ModelCard]:
    """Return the cards of `models`, or if it is empty, of all models with an accuracy published on `data`.

    Raises:
        UserError: if names are unknown or have no accuracy published on `data`; one fault per name.
    """
    known = published_on(data)
    if not models:
        return known
    cards = read_cards(ModelCard)
    faults = []
    for name in models:
        if name in cards and name not in known:
            others = [BENCHMARKS[each.data] for each in cards[name].published]
            rule = f"has no accuracy published on {BENCHMARKS[data]}"
            faults.append(Fault("models", rule, f"it has one on {others[0]}" if others else "remove the name", name))
        elif name not in known:
            near = did_you_mean(name, known, "convoy train --help model lists them")
            near = f"write runs=[{name}] for a run" if "/" in name else near
            faults.append(Fault("models", "no such model", near, name))
    if faults:
        raise UserError(*faults)
    return {name: known[name] for name in models}


def from_cards(cards: dict[str, ModelCard], data: str, *, measure: bool) -> Iterator[Entry]:
    """Yield an entry per card, with the figures of the ledger at the image size of the published accuracy.

    Args:
        cards: cards by option name, each with an accuracy published on `data`.
        data: option of conf/data.
        measure: whether to measure the speed of forward passes on this machine.
    """
    for name, card in cards.items():
        published = card.published_on(data)
        assert published is not None
        size = published.image_size
        words = [f"model={name}", f"data={data}", f"data.image_size={size}", "data.eval_resize=null"]
        config = preflight.read([*words, "trainer.precision=32", "trainer.gpus=0"], to_run=False)
        ledger = ledger_of(config)
        count, macs, kept = (ledger.total(column) for column in ("params", "macs", "saved_bytes"))
        speed = None
        if measure:
            speed = _images_per_s(config)
        yield Entry(
            name, card.family, size, count, macs, kept, PUBLISHED, published.accuracy, True, published.source, speed
        )


def from_runs(runs: Iterable[str], output_root: str) -> Iterator[Entry]:
    """Yield an entry per run from the files in its folder.

    The value is the monitored metric of test, or of val if the run was not tested.

    Raises:
        UserError: if there is no such run, or it has not ended.
    """
    for text in runs:
        run = find_run(text, output_root, "runs")
        try:
            summary = json.loads(run.summary.read_text(encoding="utf-8"))
            totals = json.loads(run.ledger_json.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            rule = "has no readable summary.json and ledger.json"
            raise UserError(Fault("runs", rule, "compare runs that have ended", text)) from error
        name = str(summary.get("monitor", "")).removeprefix("val/")
        split = next((split for split in ("test", "val") if summary.get(f"{split}/{name}") is not None), None)
        config = run.saved_config()
        model = str(config["model"].get("name", ""))
        yield Entry(
            shown(run.path) if summary["name"] == model else str(summary["name"]),
            family_of(model),
            Sides(*totals["input_shape"][1:]).value,
            int(totals["totals"]["params"]),
            int(totals["totals"]["macs"]),
            int(totals["totals"]["saved_bytes"]),
            name or None,
            None if split is None else float(summary[f"{split}/{name}"]),
            name in summary.get("percent", ()),
            "" if split is None else f"{config['data']['name']} {split}",
            summary.get("images_per_s"),
        )


def _images_per_s(config: Config) -> float:
    """Return the median speed of forward passes in two seconds, on the CPU in float32 with batches of `SPEED_BATCH`."""
    model = {key: value for key, value in config.model.items() if key != "pretrained"}
    network = construct_model(model, **model_sizes(config))
    network = network.eval().to(memory_format=torch.channels_last)
    images = torch.rand(SPEED_BATCH, config.data.channels, *sides_of(config.data.image_size)).to(
        memory_format=torch.channels_last
    )
    taken: list[float] = []
    with torch.inference_mode():
        network(images)
        while len(taken) < _FEWEST_PASSES or sum(taken) < _SPEED_SECONDS:
            start = time.perf_counter()
            network(images)
            taken.append(time.perf_counter() - start)
    return SPEED_BATCH / statistics.median(taken)
