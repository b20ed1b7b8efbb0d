"""Training through Convoy's Lightning module against a bare PyTorch loop: the same model, batches and optimizer.

Each round trains the same ResNet-18 on Fashion-MNIST for a few steps in both ways, in turn, in one process; the
ratio of a round is Convoy's images/s over the bare loop's. A null control compares the bare loop with itself.

    python -m benchmarks.lightning_overhead --steps 8 --rounds 5
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.nn import functional

from convoy.config.schema import Config
from convoy.data.module import ImageData
from convoy.models.build import build_model
from convoy.optim.build import build_optimizer, build_scheduler
from convoy.training.classifier import Classifier
from convoy.training.preflight import read

BATCH = 128
OVERRIDES = ("model=resnet18", "model.stem=small", "data=fashion_mnist", "trainer.gpus=0", "logger=csv")


def images_per_s_bare(network: torch.nn.Module, config: Config, data: ImageData, steps: int) -> float:
    """A loop as one writes it by hand: forward, loss, backward, step, schedule."""
    optimizer = build_optimizer(config.optimizer, network, fuse=True)
    schedule = build_scheduler(config.scheduler, optimizer, total_steps=steps, steps_per_epoch=steps)
    network.train()
    began = time.perf_counter()
    for images, labels in data.training_loader(0):
        optimizer.zero_grad()
        functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        schedule.step()
    return steps * config.trainer.global_batch_size / (time.perf_counter() - began)


def images_per_s_convoy(network: torch.nn.Module, config: Config, data: ImageData, steps: int) -> float:
    """The way of `convoy train`, as its own recorder times it; no validation in between.

    All callbacks but the one that times each layer on a run's first steps, which images/s leave out.
    """
    from convoy.config.batch import divide
    from convoy.training.devices import choose
    from convoy.training.folder import RunFolder
    from convoy.training.position import length
    from convoy.training.run import _callbacks
    from convoy.training.terminal import Terminal
    from convoy.training.trainer import build_trainer

    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        run.checkpoints.mkdir()
        terminal = Terminal(speaking=False)
        terminal.log_to(None)
        span, sizes = length(None, steps, steps), divide(config.trainer.global_batch_size, None, 1)
        watched = _callbacks(config, run, terminal, span, sizes)
        trainer = build_trainer(config, choose(config), span, sizes, [], watched.all, run)
        trainer.fit(Classifier(network, config, data.num_classes), train_dataloaders=data.training_loader(0))
        terminal.close()
    speed = watched.recorder.images_per_s
    assert speed is not None
    return speed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    config = read([*OVERRIDES, f"trainer.max_steps={given.steps}"])
    data = ImageData(
        config.data, seed=1, micro_batch_size=BATCH, accumulation=1, eval_batch_size=BATCH, max_steps=given.steps
    )
    data.open()
    pl.seed_everything(1, verbose=False)
    network = build_model(config.model, num_classes=10, in_channels=1, image_size=32)
    network = network.to(memory_format=torch.channels_last)
    images_per_s_bare(copy.deepcopy(network), config, data, given.steps)  # warm-up

    null, ratios = [], []
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {given.steps} steps of {BATCH} a round")
    print(f"{'round':>5} {'bare':>8} {'convoy':>8} {'bare':>8}  images/s   convoy/bare  bare/bare")
    for index in range(given.rounds):
        first = images_per_s_bare(copy.deepcopy(network), config, data, given.steps)
        convoy = images_per_s_convoy(copy.deepcopy(network), config, data, given.steps)
        second = images_per_s_bare(copy.deepcopy(network), config, data, given.steps)
        ratios.append(2 * convoy / (first + second))
        null.append(second / first)
        print(f"{index + 1:>5} {first:8.1f} {convoy:8.1f} {second:8.1f}  {ratios[-1]:21.3f} {null[-1]:10.3f}")
    for name, values in (("convoy/bare", ratios), ("bare/bare (null)", null)):
        print(f"{name}: median {statistics.median(values):.3f}, range {min(values):.3f} to {max(values):.3f}")


if __name__ == "__main__":
    main()
