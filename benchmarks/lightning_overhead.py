"""Training with Convoy's Lightning module, compared with a bare PyTorch loop: same model, batches and optimizer.

Each round trains the same ResNet-18 on Fashion-MNIST for a few steps with both, in the default precision of this
machine. The ceiling is the bare loop over one fixed batch.

    python -m benchmarks.lightning_overhead --steps 8 --batch 128
    python -m benchmarks.lightning_overhead model=vgg11_bn data=cifar10 trainer.precision=32      another training
"""

from __future__ import annotations

import argparse
import copy
import itertools
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch.nn import functional

from benchmarks.networks import built, composed, opened
from benchmarks.results import Result
from benchmarks.rounds import compare, machine, threads
from convoy.config.schema import Config
from convoy.data.batches.collate import Batch
from convoy.data.data_module import ImageData
from convoy.optim.build_optimizer import build_optimizer, build_scheduler
from convoy.runtime.devices import choose
from convoy.training.lightning_module import TrainingModule

OVERRIDES = ("model=resnet18", "model.stem=small", "data=fashion_mnist")
GOAL = 0.95
"""Lower bound for Convoy's speed as a share of the bare loop's."""


def images_per_s_bare(network: torch.nn.Module, config: Config, data: ImageData, steps: int) -> float:
    """Return the images/s of a bare loop: forward, loss, backward, step, schedule."""
    return _bare(network, config, data.training_loader(0), steps)


def images_per_s_fixed(network: torch.nn.Module, config: Config, data: ImageData, steps: int) -> float:
    """Return the images/s of the bare loop over one fixed batch."""
    batch = next(iter(data.training_loader(0)))
    return _bare(network, config, itertools.repeat(batch, steps), steps)


def _bare(network: torch.nn.Module, config: Config, batches: Iterable[Batch], steps: int) -> float:
    """Return the images/s of the bare loop on the CPU, in the precision of the config."""
    halves = choose(config).precision == "bf16-mixed"
    optimizer = build_optimizer(config.optimizer, network, fuse=True)
    schedule = build_scheduler(config.scheduler, optimizer, total_steps=steps, steps_per_epoch=steps)
    network.train()
    began, count = time.perf_counter(), 0
    for images, labels in batches:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=halves):
            loss = functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        schedule.step()
        count += len(labels)
    return count / (time.perf_counter() - began)


def images_per_s_convoy(network: torch.nn.Module, config: Config, data: ImageData, steps: int) -> float:
    """Return the images/s of `convoy train` as measured by its metrics logger, without validation.

    All callbacks are active except the one that times each layer on the first steps, which images/s exclude.

    Args:
        network: Network to train.
        config: Config of the run.
        data: Opened data.
        steps: Number of steps from the first to the end of the data's epoch or its `max_steps`.
    """
    from convoy.config.batch import divide
    from convoy.config.run_length import run_length
    from convoy.records.console import Console
    from convoy.records.run_context import RunContext
    from convoy.runs.layout import RunFolder
    from convoy.runtime.rank_store import RankStore
    from convoy.tasks.construction import build_task
    from convoy.training.callbacks import build_callbacks
    from convoy.training.trainer import build_trainer

    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder))
        run.checkpoints.mkdir()
        terminal = Console(speaking=False)
        terminal.log_to(None)
        length, sizes = run_length(None, steps, steps), divide(config.trainer.global_batch_size, None, 1)
        context = RunContext(config, choose(config), sizes, length, run, terminal, None, True)
        task = build_task(config, data.targets)
        callbacks = build_callbacks(context, task.monitor, task.mode, [], RankStore())
        trainer = build_trainer(context, [], callbacks.all)
        trainer.limit_val_batches = 0
        trainer.fit(TrainingModule(network, config, task), datamodule=data)
        terminal.close()
    assert trainer.global_step == steps, f"{trainer.global_step} steps of {steps}"
    speed = callbacks.metrics.images_per_s
    assert speed is not None
    return speed


def main(words: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6, help="steps per measurement, at most one epoch")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("overrides", nargs="*", help="Convoy's overrides: model=… data=… trainer.precision=…")
    given = parser.parse_args(words)
    config = composed(OVERRIDES, given.overrides, steps=given.steps, batch=given.batch)
    data, devices = opened(config), choose(config)
    network = built(config, data)
    steps = min(given.steps, data.steps_per_epoch(1))
    print(machine("torch", "pytorch-lightning"))
    with threads(devices.cpu_threads):
        return [
            compare(
                f"{config.model['name']}, {config.data.name}, {devices.precision}, {steps} steps of {given.batch}",
                ("Convoy", lambda: images_per_s_convoy(copy.deepcopy(network), config, data, steps)),
                ("bare loop", lambda: images_per_s_bare(copy.deepcopy(network), config, data, steps)),
                given.rounds,
                goal=GOAL,
                ceiling=("fixed batch", lambda: images_per_s_fixed(copy.deepcopy(network), config, data, steps)),
                digits=1,
            )
        ]


if __name__ == "__main__":
    main()
