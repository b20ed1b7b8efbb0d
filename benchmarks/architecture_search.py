"""Samplers of architectures on the same space with the same number of trained networks.

The networks are chains for 8x8 handwritten digits or 14x14 images of Fashion-MNIST, a second or two of training each.
The results of a sampler are the accuracy of its best network on held-out images, and the mean accuracy of its last
third. A network that two samplers choose is trained once, since its weights, batches and accuracy follow from its
layers.

    python -m benchmarks.architecture_search --networks 80 --seeds 3
    python -m benchmarks.architecture_search --data fashion_mnist --networks 80 --seeds 3
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from random import Random
from zlib import crc32

import torch
from scipy.stats import t as student

from benchmarks.results import Result
from benchmarks.rounds import machine, threads
from benchmarks.small_images import NAMES, SmallImages
from convoy.models.chain import Chain
from convoy.search.architecture.chain_space import ChainSpace
from convoy.search.architecture.decisions import ArchitectureSpace, Strategy, Trained, UniformDraws, Values
from convoy.search.architecture.evolution import Evolution
from convoy.search.architecture.lstm import LstmPolicy
from convoy.search.architecture.reinforce import Reinforce

SPACE = ChainSpace(
    [
        "CONV(1|3|5)-(2|4|8) (relu|elu|tanh|sigmoid)",
        "(POOL2|AVGPOOL2|)",
        {"repeat": [0, 1, 2], "of": ["CONV(1|3|5)-(2|4|8) (relu|tanh|sigmoid)", "(BN|)"]},
        "(POOL2|POOL4|AVGPOOL4|)",
        {"repeat": [0, 1], "of": ["FC-(4|16) (relu|tanh)"]},
        "FC-{num_classes}",
    ]
)
SAMPLERS: dict[str, Callable[[ArchitectureSpace], Strategy]] = {
    "random": UniformDraws,
    "evolution": lambda space: Evolution(space, population=16, sample=6),
    "reinforce": Reinforce,
    "lstm": LstmPolicy,
}


class Trainer:
    """Trains networks and remembers their accuracy.

    Args:
        images: to train on and to hold out.
        epochs: passes over the training images.
    """

    def __init__(self, images: SmallImages, epochs: int) -> None:
        self._images = images
        self._epochs = epochs
        self._known: dict[str, float] = {}
        self.seconds = 0.0

    def accuracy(self, values: Values) -> float:
        """Return the share of held-out images that a network classifies correctly."""
        text = SPACE.text(values)
        if text not in self._known:
            began = time.perf_counter()
            self._known[text] = self._trained(SPACE.texts(values), crc32(text.encode()))
            self.seconds += time.perf_counter() - began
        return self._known[text]

    @property
    def num_trained(self) -> int:
        """Number of different networks."""
        return len(self._known)

    def _trained(self, layers: list[str], seed: int) -> float:
        torch.manual_seed(seed)
        network = Chain(layers, num_classes=10, in_channels=1, image_size=self._images.size)
        optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
        for _ in range(self._epochs):
            self._images.epoch(network, optimizer)
        return self._images.accuracy(network)


def search(sampler: Strategy, accuracy: Callable[[Values], float], networks: int, seed: int) -> list[float]:
    """Return the accuracies of the networks that a sampler chooses, in order."""
    trained: list[Trained] = []
    for number in range(networks):
        values = sampler.ask(trained, Random(f"{seed} {number} "))
        trained.append(Trained(values, accuracy(values)))
    return [one.reward for one in trained]


def compare(space: ArchitectureSpace, accuracy: Callable[[Values], float], networks: int, seeds: int) -> list[Result]:
    """Return the results of all samplers, and print them with mean, its 95 % interval and deviation over the seeds.

    The interval is that of Student's t distribution.
    """
    results = []
    for name, make in SAMPLERS.items():
        runs = [search(make(space), accuracy, networks, seed) for seed in range(seeds)]
        best = [100 * max(run) for run in runs]
        late = [100 * statistics.mean(run[-max(1, networks // 3) :]) for run in runs]
        for title, values in (("best accuracy", best), ("mean accuracy of the last third", late)):
            results.append(Result(title, name, None, values, unit="%"))
            print(f"{results[-1].line()}{_mean(values)}", flush=True)
    return results


def _mean(values: Sequence[float]) -> str:
    if len(values) == 1:
        return ""
    deviation = statistics.stdev(values)
    half = float(student.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values))
    return f"; mean {statistics.mean(values):.2f} ± {half:.2f}, deviation {deviation:.2f}"


def main(words: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=NAMES, default="digits", help="images")
    parser.add_argument("--networks", type=int, default=80, help="trained networks per study")
    parser.add_argument("--seeds", type=int, default=3, help="studies per sampler")
    parser.add_argument("--epochs", type=int, default=4, help="epochs per network")
    given = parser.parse_args(words)
    print(machine("torch"))
    with threads(1):
        trainer = Trainer(SmallImages(given.data), given.epochs)
        results = compare(SPACE, trainer.accuracy, given.networks, given.seeds)
    print(f"{trainer.num_trained} different networks, {trainer.seconds / trainer.num_trained:.2f} s each")
    return results


if __name__ == "__main__":
    main()
