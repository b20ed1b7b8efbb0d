"""Pruned TPE with half of the optimizer steps of random search.

Both search learning rate, momentum, weight decay and batch size of a small network for 8x8 handwritten digits. Random
search trains all of its trials to their end. Pruned TPE stops after half as many steps, those of pruned trials
included. The best configuration of each is trained again with new seeds, since the best value of many trials is too
high by chance.

    OMP_NUM_THREADS=1 taskset -c 1 python -m benchmarks.pruned_search
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from optuna.trial import TrialState
from torch import nn

from benchmarks.results import Goal, Result
from benchmarks.rounds import machine, threads
from benchmarks.small_images import SmallImages
from convoy.models.chain import Chain
from convoy.runs.records import Monitor
from convoy.search.journal import open_study, sampler_of
from convoy.search.space import chosen_values
from convoy.search.study_config import study_of

LAYERS = ["CONV3-8", "POOL2", "CONV3-16", "POOL2", "FC-10"]
SPACE = {
    "lr": {"log_float": [0.0001, 1.0]},
    "momentum": {"float": [0.0, 0.99]},
    "weight_decay": {"log_float": [1.0e-6, 0.1]},
    "batch_size": {"choice": [16, 32, 64, 128, 256]},
}
PRUNERS = ("median", "successive_halving")


def epochs_of(images: SmallImages, chosen: dict[str, Any], epochs: int, seed: int) -> Iterator[tuple[float, int]]:
    """Train a configuration, and yield accuracy and optimizer steps of each epoch."""
    torch.manual_seed(seed)
    network = Chain(LAYERS, num_classes=10, in_channels=1, image_size=8)
    rest = {key: chosen[key] for key in ("lr", "momentum", "weight_decay")}
    optimizer = torch.optim.SGD(network.parameters(), **rest)
    pixels, labels = images.train
    for _ in range(epochs):
        network.train()
        batches = torch.randperm(len(pixels)).split(chosen["batch_size"])
        for batch in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(pixels[batch]), labels[batch]).backward()
            optimizer.step()
        yield images.accuracy(network), len(batches)


@dataclass
class Searched:
    """Result of a study: its best configuration, its accuracy, and what was trained."""

    chosen: dict[str, Any]
    accuracy: float
    steps: float
    trials: int
    pruned: int


def search(images: SmallImages, keys: dict[str, Any], epochs: int, trials: int, budget: float = math.inf) -> Searched:
    """Run a study as `convoy search` does, and return its result.

    Args:
        digits: images.
        keys: sampler, pruner and seed.
        epochs: of a trial that is not pruned.
        trials: largest number of trials.
        budget: largest number of optimizer steps; a trial that passes it does not count.
    """
    study, steps, number = study_of("pruned_search", {"space": SPACE, **keys}), 0, 0
    with TemporaryDirectory() as folder:
        opened = open_study(Path(folder), study, Monitor("val/top1", "max"))
        while number < trials and steps < budget:
            opened.sampler = sampler_of(study, number)
            trial = opened.ask()
            chosen, best, pruned = dict(chosen_values(list(study.parameters), trial)), 0.0, False
            for epoch, (accuracy, added) in enumerate(epochs_of(images, chosen, epochs, study.seed * 1000 + number)):
                steps, best = steps + added, max(best, accuracy)
                trial.report(accuracy, epoch + 1)
                if pruned := trial.should_prune():
                    break
                if steps > budget:
                    break
            state = TrialState.FAIL if steps > budget else TrialState.PRUNED if pruned else TrialState.COMPLETE
            opened.tell(trial, best if state == TrialState.COMPLETE else None, state)
            number += 1
        states = Counter(one.state for one in opened.get_trials(deepcopy=False))
        done, num_pruned = states[TrialState.COMPLETE], states[TrialState.PRUNED]
        return Searched(dict(opened.best_params), opened.best_value, min(steps, budget), done + num_pruned, num_pruned)


def main(words: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40, help="trials of random search")
    parser.add_argument("--epochs", type=int, default=16, help="epochs of a trial")
    parser.add_argument("--seeds", type=int, default=3, help="studies per way to search")
    parser.add_argument("--again", type=int, default=5, help="trainings of each best configuration with new seeds")
    given = parser.parse_args(words)
    print(machine("torch", "optuna"))
    with threads(1):
        results = compare(given.trials, given.epochs, given.seeds, given.again)
    for result in results:
        print(result.line())
    return results


def compare(trials: int, epochs: int, seeds: int, again: int) -> list[Result]:
    """Return the differences in accuracy between pruned TPE and random search, per seed and pruner."""
    images = SmallImages()
    best: dict[str, list[float]] = {pruner: [] for pruner in PRUNERS}
    confirmed: dict[str, list[float]] = {pruner: [] for pruner in PRUNERS}

    def trained_again(found: Searched) -> float:
        last = [max(value for value, _ in epochs_of(images, found.chosen, epochs, 10**6 + n)) for n in range(again)]
        return statistics.mean(last)

    def said(name: str, seed: int, found: Searched) -> float:
        mean = trained_again(found)
        text = f"{found.trials} trials, {found.pruned} pruned, {found.steps:,.0f} steps"
        print(f"seed {seed}, {name}: {text}; best {found.accuracy:.2%}, again {mean:.2%}", flush=True)
        return mean

    for seed in range(1, seeds + 1):
        keys = {"sampler": "random", "pruner": "none", "seed": seed}
        random = search(images, keys, epochs, trials)
        mean, limit = said("random", seed, random), random.steps / 2
        for pruner in PRUNERS:
            keys = {"sampler": "tpe", "pruner": pruner, "seed": seed}
            found = search(images, keys, epochs, 100 * trials, limit)
            best[pruner].append(100 * (found.accuracy - random.accuracy))
            confirmed[pruner].append(100 * (said(f"tpe, {pruner}", seed, found) - mean))
    return [
        Result(title, f"tpe, {pruner}", "random", values[pruner], goal=Goal(0), unit="points")
        for title, values in (("best accuracy", best), ("accuracy of the best, trained again", confirmed))
        for pruner in PRUNERS
    ]


if __name__ == "__main__":
    main()
