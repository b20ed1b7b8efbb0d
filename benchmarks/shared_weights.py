"""Agreement of shared weights with training from scratch: Kendall's tau between two accuracies of random networks.

The networks are cells for 8x8 handwritten digits or 14x14 images of Fashion-MNIST. The weights that they share are
trained on networks that are drawn uniformly, and on those of a policy that learns from the accuracy with these weights.
Each random network is also trained alone with several seeds, whose mean accuracy is predicted. The tau between this
mean and that of as many other seeds is what a perfect prediction could reach here.

    OMP_NUM_THREADS=1 taskset -c 1 python -m benchmarks.shared_weights
    OMP_NUM_THREADS=1 taskset -c 1 python -m benchmarks.shared_weights --data fashion_mnist
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from scipy.stats import kendalltau
from torch import nn

from benchmarks.results import Result
from benchmarks.rounds import machine, threads
from benchmarks.small_images import NAMES, SmallImages
from convoy.models.cells import CellNetwork
from convoy.models.shared_cells import SharedCells
from convoy.search.architecture.cell_space import CellSpace
from convoy.search.architecture.decisions import Trained, Values, drawn
from convoy.search.architecture.lstm import LstmPolicy
from convoy.search.architecture.weight_sharing import LEARNING_RATE

SPACE = CellSpace({"blocks": 2, "operations": ["identity", "average", "max", "convolution3", "separable3"]})
SIZES: dict[str, Any] = {
    "num_classes": 10,
    "in_channels": 1,
    "cells": 1,
    "filters": 4,
    "stem": "small",
    "stem_filters": 4,
}
UPDATES = 10
"""Networks per epoch from which the policy learns."""
_LEARNING_RATE = 0.05


def cells(values: Values) -> tuple[list[str], list[str]]:
    """Return the blocks of a network's cells."""
    keys = SPACE.decode(values)
    return keys["model.normal"], keys["model.reduction"]


def alone(images: SmallImages, values: Values, epochs: int, seed: int) -> float:
    """Train a network from scratch and return its accuracy."""
    torch.manual_seed(seed)
    network = CellNetwork(*cells(values), **SIZES)
    optimizer, schedule = _optimizer(network, epochs)
    for _ in range(epochs):
        images.epoch(network, optimizer)
        schedule.step()
    return images.accuracy(network)


def shared(images: SmallImages, epochs: int, *, learns: bool) -> SharedCells:
    """Train shared weights on networks drawn uniformly, or by a policy that learns after each epoch."""
    torch.manual_seed(0)
    rng, policy, trained = Random(0), LstmPolicy(SPACE, LEARNING_RATE), list[Trained]()
    network = SharedCells(*cells(drawn(SPACE, rng)), SPACE.operations, **SIZES)
    optimizer, schedule = _optimizer(network, epochs)

    def draw() -> Values:
        return policy.ask(trained, rng) if learns else drawn(SPACE, rng)

    for _ in range(epochs):
        images.epoch(network, optimizer, lambda: network.select(*cells(draw())))
        schedule.step()
        for _ in range(UPDATES if learns else 0):
            values = draw()
            network.select(*cells(values))
            trained.append(Trained(values, images.accuracy(network)))
    return network


def _optimizer(network: nn.Module, epochs: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.SGD(network.parameters(), _LEARNING_RATE, momentum=0.9)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)


def main(words: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=NAMES, default="digits", help="images")
    parser.add_argument("--networks", type=int, default=40, help="random networks")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of a network that is trained alone")
    parser.add_argument("--seeds", type=int, default=4, help="trainings per network, and again for the comparison")
    parser.add_argument("--shared-epochs", type=int, default=400, help="epochs of the shared weights")
    given = parser.parse_args(words)
    print(machine("torch"))
    with threads(1):
        results = measure(SmallImages(given.data), given.networks, given.epochs, given.seeds, given.shared_epochs)
    for result in results:
        print(result.line())
    return results


def measure(images: SmallImages, networks: int, epochs: int, seeds: int, shared_epochs: int) -> list[Result]:
    """Return tau and the accuracy of the networks that are chosen, per way to predict their accuracy."""
    rng = Random(1)
    chosen = [drawn(SPACE, rng) for _ in range(networks)]
    began = time.perf_counter()
    truth, again = (
        [statistics.mean(alone(images, values, epochs, seed) for seed in some) for values in chosen]
        for some in (range(seeds), range(seeds, 2 * seeds))
    )
    print(f"{networks} networks trained alone: {time.perf_counter() - began:.0f} s; accuracies {_percents(truth)}")
    predictions = {"other seeds": again}
    for name, learns in (("shared weights, uniform", False), ("shared weights, policy", True)):
        began = time.perf_counter()
        network = shared(images, shared_epochs, learns=learns)
        seconds = time.perf_counter() - began
        predictions[name] = []
        for values in chosen:
            network.select(*cells(values))
            predictions[name].append(images.accuracy(network))
        print(f"{name}: {seconds:.0f} s; accuracies {_percents(predictions[name])}", flush=True)
    results = []
    for name, values in predictions.items():
        best = sorted(range(networks), key=lambda index: -values[index])[: max(1, networks // 5)]
        tau = kendalltau(values, truth)
        print(f"{name}: p = {tau.pvalue:.2g} without any relation")
        results.append(Result("Kendall's tau", name, "trained alone", [float(tau.statistic)]))
        found = [100 * truth[index] for index in best]
        results.append(Result("accuracy alone of the best fifth", name, None, [statistics.mean(found)], unit="%"))
    results.append(Result("accuracy alone", "all networks", None, [100 * value for value in truth], unit="%"))
    return results


def _percents(values: Sequence[float]) -> str:
    return " ".join(f"{100 * value:.1f}" for value in values)


if __name__ == "__main__":
    main()
