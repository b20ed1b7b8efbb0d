"""Overhead per training step: a tiny network, trained by several implementations in alternation in one process.

    python -m benchmarks.step_overhead --steps 160 --batch 8
    python -m benchmarks.step_overhead model=lenet5 data=fashion_mnist      another network and data set

The arms share loader, optimizer and schedule: a bare PyTorch loop; Convoy; and Lightning as used by templates, with
automatic optimization, torchmetrics objects called in every step, and `self.log` for each of them. The figure of a
round is an arm's time per step minus the bare loop's, in microseconds. The null control is the bare loop minus itself,
the ceiling the bare loop over one fixed batch.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch.nn import functional
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from benchmarks.lightning_overhead import images_per_s_bare, images_per_s_convoy, images_per_s_fixed
from benchmarks.networks import built, composed, opened
from benchmarks.results import Goal, Result
from benchmarks.rounds import Arm, machine, take_turns, threads
from convoy.config.schema import Config
from convoy.data.data_module import ImageData
from convoy.optim.build_optimizer import build_optimizer, build_scheduler

OVERRIDES = (
    "data=digits",
    "model.name=linear",
    "model.layers=['FC-{num_classes}']",
    "trainer.precision=32",
    "optimizer.lr=0.001",
)
GOAL_US = 600
"""Upper bound in microseconds per step beyond the bare loop."""


class Template(pl.LightningModule):
    """Lightning module for classification in the style of common templates."""

    def __init__(self, network: torch.nn.Module, config: Config, num_classes: int, steps: int) -> None:
        super().__init__()
        self.network, self.config, self.steps = network, config, steps
        self.train_loss, self.train_accuracy = MeanMetric(), MulticlassAccuracy(num_classes)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, labels = batch
        logits = self.network(images)
        loss = functional.cross_entropy(logits, labels)
        self.train_loss(loss)
        self.train_accuracy(logits.argmax(1), labels)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.config.optimizer, self.network, fuse=True)
        schedule = build_scheduler(self.config.scheduler, optimizer, total_steps=self.steps, steps_per_epoch=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def images_per_s_template(network: torch.nn.Module, config: Config, data: ImageData, steps: int) -> float:
    """Return the images/s of Lightning's Trainer without logger, checkpoints, bar or validation, like Convoy's arm."""
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    clock = _Clock()
    trainer.callbacks.append(clock)
    trainer.fit(Template(network, config, data.num_classes, steps), train_dataloaders=data.training_loader(0))
    return steps * data.micro_batch_size / clock.seconds


class _Clock(pl.Callback):
    """Lightning callback that measures the time of the epoch only."""

    seconds = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds = time.perf_counter() - self._began


def main(words: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--steps", type=int, default=160, help="steps per measurement, at most an epoch (161 for digits)"
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("overrides", nargs="*", help="Convoy's overrides: model=… data=…")
    given = parser.parse_args(words)
    config = composed(OVERRIDES, given.overrides, steps=given.steps, batch=given.batch)
    data = opened(config)
    network, steps = built(config, data), min(given.steps, data.steps_per_epoch(1))

    def arm(speed: Callable[..., float], config: Config, data: ImageData) -> Arm:
        return lambda: 1e6 * given.batch / speed(copy.deepcopy(network), config, data, steps)

    arms = {
        "bare loop": arm(images_per_s_bare, config, data),
        "Convoy": arm(images_per_s_convoy, config, data),
        "template": arm(images_per_s_template, config, data),
        "fixed batch": arm(images_per_s_fixed, config, data),
    }
    print(machine("torch", "pytorch-lightning", "torchmetrics"))
    title = f"{config.model['name']}, {config.data.name}, {steps} steps of {given.batch}, 1 thread"
    with threads(1):
        turns = take_turns(title, arms, given.rounds, unit="µs per step")
    results = [
        Result(
            f"overhead per step: {title}",
            name,
            "bare loop",
            turns.differences(name),
            turns.null_differences(),
            goal,
            unit="µs",
            ceiling="fixed batch",
            of_ceiling=[1 / share for share in turns.shares(name, "fixed batch")],
            busy_cores=turns.busy_cores,
            digits=0,
        )
        for name, goal in (("Convoy", Goal(GOAL_US, at_least=False)), ("template", None))
    ]
    print("\n".join(result.line() for result in results))
    return results


if __name__ == "__main__":
    main()
