"""A linear probe: how well a linear classifier does on the features of a layer (Alain & Bengio 2016,
arXiv:1610.01644).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from convoy.config.faults import Fault, UserError
from convoy.evaluation.feature_arrays import Source
from convoy.records.console import Console
from convoy.runs.layout import shown
from convoy.runs.whole_files import replace_text

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""The inverse strengths of regularization, scikit-learn's C, that are tried; val chooses."""

_MOST_ROUNDS = 200
_MOST_BYTES = 2**32


@dataclass(frozen=True)
class Probed:
    """A linear classifier on features.

    Attributes:
        num_features: of an image.
        strength: C, chosen on val.
        train, val, test: top-1 accuracies; None where there is no such split.
        class_share: of the largest class in val: what guessing it gives.
    """

    num_features: int
    strength: float
    train: float
    val: float
    test: float | None
    class_share: float


def probe(features: dict[str, tuple[Tensor, Tensor]], seed: int, strengths: Sequence[float] = STRENGTHS) -> Probed:
    """Fit a multinomial logistic regression on train for each strength, and keep the one that is best on val.

    Args:
        features: [N, D] and labels [N] of "train" and "val", and of "test" if there is one.
        seed: of the solver.
        strengths: inverse strengths of the L2 penalty; the weakest penalty that is as good as any wins no tie.
    """
    # Imported here: it takes a second.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    train, _ = features["train"]
    mean, spread = train.mean(0), train.std(0)
    spread = torch.where(spread > 0, spread, 1)
    ready: dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]] = {
        split: (((values - mean) / spread).numpy(), own.numpy()) for split, (values, own) in features.items()
    }
    best, best_val = None, -1.0
    for strength in sorted(strengths):
        classifier = LogisticRegression(C=strength, max_iter=_MOST_ROUNDS, random_state=seed)
        with warnings.catch_warnings():
            # Without the last digits of the optimum the accuracy is the same.
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(*ready["train"])
        accuracy = float(classifier.score(*ready["val"]))
        if accuracy > best_val:
            best, best_val = classifier, accuracy
    assert best is not None
    scores = {split: float(best.score(*pair)) for split, pair in ready.items()}
    share = torch.bincount(features["val"][1]).max().item() / len(features["val"][1])
    return Probed(train.shape[1], best.C, scores["train"], scores["val"], scores.get("test"), share)


def probe_run(source: Source) -> Probed:
    """Probe a layer of a run's network, print the accuracies and leave them in the run's folder.

    Raises:
        UserError: the features take more than 4 GiB.
    """
    terminal = Console()
    terminal.log_to(None)
    found = {split: _gathered(source, split) for split, count in source.data.images.sizes.items() if count}
    probed = probe(found, source.data.config.seed)
    path = source.run.folder / f"probe-{source.stem}.json"
    record = {"layer": source.tap.name, "data": source.data.name, **asdict(probed)}
    replace_text(path, json.dumps(record, indent=2) + "\n")
    terminal.say(source.title)
    images = ", ".join(f"{len(labels):,} {split}" for split, (_, labels) in found.items())
    terminal.say(f"{source.data.name}: {images}; {probed.num_features:,} features, C = {probed.strength:g}")
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("linear probe")
    accuracies = {split: value for split in found if (value := getattr(probed, split)) is not None}
    for split in accuracies:
        grid.add_column(split, justify="right")
    grid.add_row("top-1", *(f"{value:.2%}" for value in accuracies.values()))
    terminal.show(grid)
    terminal.say(f"the largest class is {probed.class_share:.1%} of val")
    terminal.say(shown(path))
    return probed


def _gathered(source: Source, split: str) -> tuple[Tensor, Tensor]:
    """Features [N, D] and labels [N] of a whole split."""
    features, labels = [], []
    for values, own in source.batches(split):
        features.append(torch.flatten(values, 1))
        labels.append(own)
        size = features[0].shape[1] * source.data.images.sizes[split] * 4
        if size > _MOST_BYTES:
            rule = f"{split} would have {features[0].shape[1]:,} features an image, {size / 2**30:.1f} GiB in all"
            remedy = "choose a layer after more pooling; penultimate is the last one"
            raise UserError(Fault("layer", rule, remedy, source.tap.name))
    return torch.cat(features), torch.cat(labels)
