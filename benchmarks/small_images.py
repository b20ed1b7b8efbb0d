"""Small images of ten classes for benchmarks that train many networks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from convoy.config.data_schema import DataConfig
from convoy.data.images.resize import fit_images
from convoy.data.sources.digits import read_digits
from convoy.data.sources.mnist import read_fashion_mnist

NAMES = ("digits", "fashion_mnist")
_BATCH = 64


class SmallImages:
    """Images [n, 1, S, S], normalized, and labels [n] for training and for validation.

    "digits" has 1,000 handwritten digits for training and 438 for validation, S = 8. "fashion_mnist" has the first
    2,000 training images of Fashion-MNIST, S = 14, half of them for validation.
    """

    def __init__(self, name: str = "digits") -> None:
        read, count, num_val, self.size = {
            "digits": (read_digits, None, 438, 8),
            "fashion_mnist": (read_fashion_mnist, 2000, 1000, 14),
        }[name]
        whole = read(DataConfig()).train
        images = fit_images(whole.images[:count], self.size, "resize").float()
        images, labels = (images - images.mean()) / images.std(), whole.labels[:count]
        self.val = images[:num_val], labels[:num_val]
        self.train = images[num_val:], labels[num_val:]

    def epoch(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, choose: Callable[[], None] = lambda: None
    ) -> None:
        """Train for an epoch; `choose` is called before each batch."""
        images, labels = self.train
        network.train()
        for batch in torch.randperm(len(images)).split(_BATCH):
            choose()
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()

    def accuracy(self, network: nn.Module) -> float:
        """Return the share of the validation images that are classified correctly."""
        images, labels = self.val
        network.eval()
        with torch.no_grad():
            predicted: Tensor = network(images).argmax(1)
        return float((predicted == labels).float().mean())
