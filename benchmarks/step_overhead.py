"""What a step costs beyond the arithmetic: a network of no size, trained in three ways by turns, in one process.

    python -m benchmarks.step_overhead --rounds 10

The arms share loader, optimizer and schedule: a bare PyTorch loop; Convoy; and Lightning as templates use it, with
automatic optimization, torchmetrics' objects called in every step, and `self.log` for each of them. A round's figure is
an arm's time a step less the bare loop's, in microseconds; the null control is the bare loop less itself.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch.nn import functional
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from benchmarks.lightning_overhead import images_per_s_bare, images_per_s_convoy
from convoy.config.schema import Config
from convoy.data.module import ImageData
from convoy.models.build import build_model
from convoy.optim.build import build_optimizer, build_scheduler
from convoy.training.preflight import read

BATCH, STEPS = 8, 160
"""An epoch of digits is 161 steps."""
OVERRIDES = (
    "data=digits",
    "model.layers=['FC-{num_classes}']",
    "trainer.gpus=0",
    "trainer.precision=32",
    "logger=csv",
    "optimizer.lr=0.001",
    f"trainer.global_batch_size={BATCH}",
)


class Template(pl.LightningModule):
    """A classifier as the templates of the field write it."""

    def __init__(self, network: torch.nn.Module, config: Config, steps: int) -> None:
        super().__init__()
        self.network, self.config, self.steps = network, config, steps
        self.train_loss, self.train_accuracy = MeanMetric(), MulticlassAccuracy(10)

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
    """Lightning's Trainer without logger, checkpoints, bar or validation, which Convoy's arm doesn't have either."""
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
    trainer.fit(Template(network, config, steps), train_dataloaders=data.training_loader(0))
    return steps * BATCH / clock.seconds


class _Clock(pl.Callback):
    """Times the epoch, and not what comes before and after it."""

    seconds = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds = time.perf_counter() - self._began


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args(words)
    config = read([*OVERRIDES, f"trainer.max_steps={STEPS}"])
    data = ImageData(
        config.data, seed=1, micro_batch_size=BATCH, accumulation=1, eval_batch_size=BATCH, max_steps=STEPS
    )
    data.open()
    pl.seed_everything(1, verbose=False)
    network = build_model(config.model, num_classes=10, in_channels=1, image_size=config.data.image_size)
    torch.set_num_threads(1)
    arms = {"bare": images_per_s_bare, "convoy": images_per_s_convoy, "template": images_per_s_template}
    found: dict[str, list[float]] = {"convoy": [], "template": [], "null": []}
    load = os.getloadavg()[0]
    print(f"torch {torch.__version__}, 1 thread, {STEPS} steps of {BATCH} a round, load {load:.1f}; µs a step")
    print(f"{'round':>5} {'bare':>8} {'convoy':>8} {'template':>8} {'bare':>8}")
    for index in range(-1, given.rounds):
        speeds = [arms[name](copy.deepcopy(network), config, data, STEPS) for name in (*arms, "bare")]
        bare, convoy, template, again = (1e6 * BATCH / speed for speed in speeds)
        if index < 0:
            continue  # the first round warms up
        print(f"{index + 1:>5} {bare:8.0f} {convoy:8.0f} {template:8.0f} {again:8.0f}", flush=True)
        both = (bare + again) / 2
        for name, value in (("convoy", convoy - both), ("template", template - both), ("null", again - bare)):
            found[name].append(value)
    for name, values in found.items():
        print(f"{name:8} less bare: median {statistics.median(values):.0f}, {min(values):.0f} to {max(values):.0f} µs")


if __name__ == "__main__":
    main()
