"""GPU memory predicted without calibration, compared with published trainings.

    python -m benchmarks.published_memory [peaks|batches]

`published_peaks.csv` has measured memory, `published_batches.csv` the largest batch that ran. The constants of
`convoy.planner.workspaces` and `convoy.planner.intervals` are fitted to the rows marked `fit`; the goals are for the
rows marked `report`. The batches take about a quarter of an hour, the peaks three minutes.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from benchmarks.results import Goal, Result
from convoy.planner.allocator import OutOfMemoryError
from convoy.planner.calibration import Calibration
from convoy.planner.intervals import Spread, spread_of
from convoy.planner.peak_memory import BatchSizeModel, Card
from convoy.planner.traced_training import Training, record

MIB = 2**20
OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.001),
    "sgd_momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-4),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
}
BATCHES = (512, 384, 256, 192, 128, 96, 64, 48, 32)
"""Batches that timm's benchmark.py tries, one after the other, until one runs."""


@dataclass(frozen=True)
class Source:
    """Published measurements of one card.

    Attributes:
        url: Location of the figures.
        usable_mib: Memory of the card.
        context_mib: Memory outside the allocator, a constant that was fitted to the rows marked `fit`.
        counts_context: Whether the figures contain it.
        precision: "32" or "16-mixed".
        channels_last: Whether the images have this memory format.
        keeps_gradients: Whether gradients are set to zero instead of freed, as `zero_grad` did before torch 2.0.
    """

    url: str
    usable_mib: int
    context_mib: int
    counts_context: bool = True
    precision: str = "32"
    channels_last: bool = False
    keeps_gradients: bool = False


_XMEM = "github.com/Stone-ResearchLife/xMem, plot/data/002-Monte Carlo/CNN/001 and 002, commit d61e076: `ground`"
SOURCES = {
    # A100 of 40 GB, nvidia-smi, 2025. Trainings on ImageNet, without cudnn.benchmark.
    "carma": Source("github.com/itu-rad/CARMA, workloads/ehsan-summary.csv, commit 58779f8", 40340, 526),
    # torch 2.6. Runs that failed end 270 MiB or more below the card's memory: the figures are without the context.
    "xmem_3060": Source(_XMEM, 12037, 270, counts_context=False),
    "xmem_4060": Source(_XMEM, 7932, 270, counts_context=False),
    # RTX 3090, torch 1.12, CUDA 11.3, cudnn.benchmark. Networks with convolutions and batches below 512.
    "timm": Source(
        "github.com/huggingface/pytorch-image-models, results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv,"
        " commit 5e7d47c",
        24268,
        1552,
        precision="16-mixed",
        channels_last=True,
        keeps_gradients=True,
    ),
}


@dataclass(frozen=True)
class Run:
    """Published training.

    Attributes:
        part: "fit" or "report".
        source: Key of `SOURCES`.
        library: "torchvision" or "timm".
        network: Name in the library.
        image_size: Height and width in pixels.
        num_classes: Outputs of the network.
        optimizer: Key of `OPTIMIZERS`.
        batch: Samples per batch.
        used_mib: Measured memory; None if the training ran out of memory, or only the batch is published.
    """

    part: str
    source: str
    library: str
    network: str
    image_size: int
    num_classes: int
    optimizer: str
    batch: int
    used_mib: int | None = None

    @property
    def origin(self) -> Source:
        return SOURCES[self.source]

    @property
    def model(self) -> BatchSizeModel:
        return _model(replace(self, part="", batch=0, used_mib=None))

    @property
    def spread(self) -> Spread:
        """Spread of the prediction with a known context."""
        return spread_of(self.model.convolutions.values(), Calibration(context_bytes=self.origin.context_mib * MIB))

    def card(self, *, upper: bool) -> Card:
        """Return the card, with the limit for the prediction or for the upper end of its interval."""
        spread = self.spread if upper else Spread()
        limit = spread.limit_bytes(self.origin.usable_mib * MIB, self.origin.context_mib * MIB)
        kept = _gradient_bytes(self.library, self.network, self.num_classes) if self.origin.keeps_gradients else 0
        return Card(limit, resident_bytes=kept)

    def reserved_mib(self, *, workspaces: bool = True) -> float | None:
        """Return the predicted reserved memory, also without workspaces; None if the training is said not to fit."""
        none = None if workspaces else {signature: {self.batch: 0} for signature in self.model.convolutions}
        try:
            return self.model.peak(self.batch, self.card(upper=False).allocator(), none).reserved_bytes / MIB
        except OutOfMemoryError:
            return None


def runs(name: str) -> list[Run]:
    """Return the rows of published_peaks.csv or published_batches.csv."""
    with (Path(__file__).parent / f"published_{name}.csv").open(encoding="utf-8") as file:
        return [_run(row) for row in csv.DictReader(file)]


def _run(row: dict[str, str]) -> Run:
    numbers = {name: int(row[name]) for name in ("image_size", "num_classes", "batch")}
    texts = {name: row[name] for name in ("part", "source", "library", "network", "optimizer")}
    return Run(**texts, **numbers, used_mib=int(row["used_mib"]) if row.get("used_mib") else None)  # type: ignore[arg-type]


@cache
def _model(run: Run) -> BatchSizeModel:
    from convoy.data.targets import Targets
    from convoy.tasks.classification import Classification
    from convoy.tasks.losses import ConfiguredLoss

    loss = ConfiguredLoss({"_target_": "torch.nn.CrossEntropyLoss"})
    training = Training(
        (3, run.image_size, run.image_size),
        Classification(Targets.unnamed("class_index", run.num_classes), loss),
        lambda network: OPTIMIZERS[run.optimizer](network.parameters()),
        run.origin.precision,
        channels_last=run.origin.channels_last,
    )
    network = _network(run.library, run.network, run.num_classes)
    if run.origin.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return BatchSizeModel(record(network, training, 4), record(network, training, 8))


def _network(library: str, name: str, num_classes: int) -> nn.Module:
    import timm
    import torchvision

    from convoy.ledger.skeleton import without_weights

    if library == "timm":
        return without_weights(lambda: timm.create_model(name, num_classes=num_classes))
    options = {"aux_logits": False, "init_weights": False} if name == "inception_v3" else {}
    return without_weights(lambda: getattr(torchvision.models, name)(num_classes=num_classes, **options))


@cache
def _gradient_bytes(library: str, name: str, num_classes: int) -> int:
    return sum(4 * one.numel() for one in _network(library, name, num_classes).parameters())


def peaks() -> list[Result]:
    """Print predicted beside measured memory, the quantiles of their ratio, and what is said to fit."""
    errors: dict[str, list[float]] = {"fit": [], "report": []}
    ratios: dict[str, list[float]] = {"fit": [], "report": []}
    bare: dict[str, list[float]] = {"fit": [], "report": []}
    false_fits = false_refusals = outside = 0
    for run in runs("peaks"):
        source, reserved = run.origin, run.reserved_mib()
        fits = run.model.fits(run.batch, run.card(upper=True))
        false_fits += fits and run.used_mib is None
        false_refusals += not fits and run.used_mib is not None
        said = "fits" if fits else "does not fit"
        text = f"{run.part:6} {run.source:9} {run.network:18} {run.optimizer:8} {run.batch:4}"
        without = run.reserved_mib(workspaces=False)
        if run.used_mib is None or reserved is None or without is None:
            print(f"{text}  out of memory, predicted: {said}", flush=True)
            continue
        outside_allocator = source.context_mib if source.counts_context else 0
        ratio = (run.used_mib - outside_allocator) / reserved
        error = 100 * ((reserved + outside_allocator) / run.used_mib - 1)
        inside = 1 - run.spread.below <= ratio <= 1 + run.spread.above
        outside += not inside
        errors[run.part].append(error)
        bare[run.part].append(100 * ((without + outside_allocator) / run.used_mib - 1))
        ratios[run.part].append(ratio)
        figures = f"predicted {reserved + outside_allocator:6.0f}  measured {run.used_mib:6}  {error:+5.1f} %"
        figures += f" (without workspaces {bare[run.part][-1]:+5.1f} %)"
        print(f"{text}  {figures}  {'' if inside else 'outside the interval, '}{said}", flush=True)
    for part, values in bare.items():
        low, middle = min(values), _quantile(_sizes(values), 0.5)
        print(f"{part}: without workspaces, at most {-low:.1f} % too low, median {middle:.1f} % off")
    for part, values in ratios.items():
        low, high = _quantile(values, 0.05), _quantile(values, 0.95)
        print(f"{part}: measured through predicted reserved memory, 5 % and 95 %: {low:.3f}, {high:.3f}")
    print(f"{outside} outside their interval, {false_fits} false fits, {false_refusals} false refusals")
    goals = {"fit": None, "report": Goal(2.5, at_least=False)}
    return [
        *(
            Result(f"peak memory, {part}", "predicted", "measured", _sizes(values), goal=goals[part], unit="% off")
            for part, values in errors.items()
        ),
        Result(
            "peak memory, report, 90 % of the runs",
            "predicted",
            "measured",
            [_quantile(_sizes(errors["report"]), 0.9)],
            goal=Goal(7.0, at_least=False),
            unit="% off",
        ),
    ]


def _sizes(errors: Sequence[float]) -> list[float]:
    return [abs(error) for error in errors]


def _quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile, interpolated linearly."""
    ordered, place = sorted(values), share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def batches() -> list[Result]:
    """Print the largest of timm's batches that is predicted to fit beside the one that ran."""
    exact: dict[str, list[float]] = {"fit": [], "report": []}
    too_large = too_small = 0
    for run in runs("batches"):
        fitting = {upper: _largest(run, upper=upper) for upper in (False, True)}
        too_large += fitting[True] > run.batch
        too_small += fitting[True] < run.batch
        exact[run.part].append(float(fitting[True] == run.batch))
        found = f"predicted {fitting[True]:3} (without the interval {fitting[False]:3}), published {run.batch:3}"
        print(f"{run.part:6} {run.network:22} {found}{'' if fitting[True] == run.batch else '  different'}", flush=True)
        _model.cache_clear()
    print(f"{too_large} too large, {too_small} too small")
    return [
        Result(f"largest batch, {part}", "exact", None, [100 * sum(values) / len(values)], goal=Goal(93), unit="%")
        for part, values in exact.items()
    ]


def _largest(run: Run, *, upper: bool) -> int:
    card = run.card(upper=upper)
    return next((batch for batch in BATCHES if run.model.fits(batch, card)), 0)


def main(words: Sequence[str] = ()) -> list[Result]:
    """Print a line per published training, and a summary."""
    parts = {"peaks": peaks, "batches": batches}
    results = [result for name in words or parts for result in parts[name]()]
    print(*(result.line() for result in results), sep="\n")
    return results


if __name__ == "__main__":
    main(sys.argv[1:])
