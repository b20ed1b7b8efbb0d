"""Samplers of architectures on the same space with the same number of trained networks.

The networks are chains for 8x8 handwritten digits, a second or two of training each. The results of a sampler are
the accuracy of its best network on held-out images, and the mean accuracy of its last third. A network that two
samplers choose is trained once, since its weights, batches and accuracy follow from its layers.

    python -m benchmarks.architecture_search --networks 80 --seeds 3
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from random import Random
from zlib import crc32

import torch
from torch import Tensor, nn

from benchmarks.results import Result
from benchmarks.rounds import machine, threads
from convoy.config.data_schema import DataConfig
from convoy.data.sources.digits import read_digits
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
NUM_VAL = 438
"""Images held out, one in three."""


SAMPLERS: dict[str, Callable[[ArchitectureSpace], Strategy]] = {
    "random": UniformDraws,
    "evolution": lambda space: Evolution(space, population=16, sample=6),
    "reinforce": Reinforce,
    "lstm": LstmPolicy,
}


class Trainer:
    """Trains networks and remembers their accuracy.

    Args:
        epochs: passes over the training images.
    """

    def __init__(self, epochs: int) -> None:
        digits = read_digits(DataConfig()).train
        images = digits.images.float()
        self._images = (images - images.mean()) / images.std()
        self._labels = digits.labels.long()
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
        network = Chain(layers, num_classes=10, in_channels=1, image_size=self._images.shape[-1])
        optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
        (val_images, images), (val_labels, labels) = (self._split(one) for one in (self._images, self._labels))
        for _ in range(self._epochs):
            for batch in torch.randperm(len(images)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
                optimizer.step()
        network.eval()
        with torch.no_grad():
            return float((network(val_images).argmax(1) == val_labels).float().mean())

    @staticmethod
    def _split(whole: Tensor) -> tuple[Tensor, Tensor]:
        return whole[:NUM_VAL], whole[NUM_VAL:]


def search(sampler: Strategy, accuracy: Callable[[Values], float], networks: int, seed: int) -> list[float]:
    """Return the accuracies of the networks that a sampler chooses, in order."""
    trained: list[Trained] = []
    for number in range(networks):
        values = sampler.ask(trained, Random(f"{seed} {number} "))
        trained.append(Trained(values, accuracy(values)))
    return [one.reward for one in trained]


def compare(space: ArchitectureSpace, accuracy: Callable[[Values], float], networks: int, seeds: int) -> list[Result]:
    """Return the results of all samplers, and print them with mean and deviation over the seeds."""
    results = []
    for name, make in SAMPLERS.items():
        runs = [search(make(space), accuracy, networks, seed) for seed in range(seeds)]
        best = [100 * max(run) for run in runs]
        late = [100 * statistics.mean(run[-max(1, networks // 3) :]) for run in runs]
        for title, values in (("best accuracy", best), ("mean accuracy of the last third", late)):
            results.append(Result(title, name, None, values, unit="%"))
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            print(f"{results[-1].line()}; mean {statistics.mean(values):.2f}, deviation {deviation:.2f}", flush=True)
    return results


def main(words: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=80, help="trained networks per study")
    parser.add_argument("--seeds", type=int, default=3, help="studies per sampler")
    parser.add_argument("--epochs", type=int, default=4, help="epochs per network")
    given = parser.parse_args(words)
    print(machine("torch"))
    with threads(1):
        trainer = Trainer(given.epochs)
        results = compare(SPACE, trainer.accuracy, given.networks, given.seeds)
    print(f"{trainer.num_trained} different networks, {trainer.seconds / trainer.num_trained:.2f} s each")
    return results


if __name__ == "__main__":
    main()
