"""The Lightning module: a network, its loss, and what is measured while it learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from convoy.config.schema import Config
from convoy.data.collate import Batch
from convoy.models import auxiliary
from convoy.models.freezing import frozen_norms
from convoy.optim.construction import build_optimizer
from convoy.optim.fusing import may_fuse
from convoy.tasks.evaluation_metrics import EvaluationMetrics
from convoy.training.loop_state import loops_at
from convoy.training.running_metrics import RunningMetrics

Mixing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class NotFiniteError(Exception):
    """The loss became NaN or infinite.

    Attributes:
        step: the optimizer step (counted from 1) at which it did.
        learning_rate: at that step, or where it was noticed.
    """

    def __init__(self, step: int, learning_rate: float) -> None:
        self.step, self.learning_rate = step, learning_rate
        super().__init__(f"the loss is not finite at step {step} (learning rate {learning_rate:g})")


class TrainingModule(pl.LightningModule):
    """Trains and evaluates a network on batches of (images [B, C, H, W], labels [B]).

    Attributes:
        network: the model itself; its weights are `network.…` in a checkpoint's state dict.
        tally: sums of the training metrics since the last row that was logged, on the device.
        latest: the newest value of every metric, for the progress bar and the summary.
        test_report: per-class accuracy and the confusion matrix, after a test.
    """

    def __init__(self, network: nn.Module, config: Config, num_classes: int, mixing: Mixing | None = None) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.mixing = mixing
        self.tally = RunningMetrics()
        self.latest: dict[str, float] = {}
        self.test_report: dict[str, Any] = {}
        self.val_metrics = EvaluationMetrics(num_classes)
        self.test_metrics = EvaluationMetrics(num_classes, per_class=True)
        self._frozen_norms = frozen_norms(network, config.model.get("freeze"), num_classes)
        self.train()

    def train(self, mode: bool = True) -> TrainingModule:
        """Training mode for all but frozen batch norms, whose statistics would else go on changing."""
        super().train(mode)
        for norm in self._frozen_norms:
            norm.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, num_classes] of images [B, C, H, W]."""
        logits: Tensor = self.network(images)
        return logits

    def configure_optimizers(self) -> Optimizer:
        clips = self.config.trainer.clip_grad_norm is not None
        fuse = may_fuse(self.device.type, str(self.trainer.precision), clips=clips)
        return build_optimizer(self.config.optimizer, self.network, fuse=fuse)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        accumulation = self.trainer.accumulate_grad_batches
        self.seed(batch_idx % accumulation, accumulation)

    def seed(self, index: int, accumulation: int) -> None:
        """Seed what dropout and mixing draw from before micro batch `index` of the step's `accumulation`.

        The state follows from the step alone, so that a resumed run, and a run with another number of loader
        threads, draws the same.
        """
        micro_step = self.trainer.global_step * accumulation + index
        seed_step((self.config.seed * 1_000_003 + micro_step) * 4096 + self.trainer.global_rank, self.device)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        # Now rather than in the next step, where Lightning does it: there they would lie beside the activations.
        for optimizer in self.trainer.optimizers:
            optimizer.zero_grad()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def loss(self, batch: Batch) -> Tensor:
        """The training loss of a micro batch, a scalar, counted in the tally."""
        images, labels = batch
        targets = labels
        if self.mixing is not None:
            images, targets = self.mixing(images, labels)
        smoothing = self.config.trainer.label_smoothing
        logits, side_logits = auxiliary.logits_of(self.network(images))
        loss = functional.cross_entropy(logits, targets, label_smoothing=smoothing)
        weight = self.config.model.get("auxiliary_weight", auxiliary.WEIGHT)
        for side in side_logits:
            loss = loss + weight * functional.cross_entropy(side, targets, label_smoothing=smoothing)
        self.tally.add(loss.detach(), logits.detach(), labels, self.trainer.global_step)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, self.test_metrics)

    def on_validation_epoch_end(self) -> None:
        values = self.val_metrics.compute("val")
        self.val_metrics.reset()
        self.latest.update(values)
        # For callbacks that watch a metric; the rows are written by the recorder.
        self.log_dict(values, logger=False)

    def on_test_epoch_end(self) -> None:
        values = self.test_metrics.compute("test")
        self.test_report = self.test_metrics.report()
        self.test_metrics.reset()
        self.latest.update(values)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = self.tally.state()
        # Here too, so that no checkpoint of broken weights takes the place of a good one.
        self.raise_if_broken(self.tally.broken_at(state))
        checkpoint["tally"] = state

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.trainer.state.fn != "fit":
            return
        if self.trainer.is_global_zero:
            self.tally.load(checkpoint.get("tally"))
        steps_per_epoch = self.trainer.datamodule.steps_per_epoch(self.trainer.world_size)  # type: ignore[attr-defined]
        checkpoint["loops"] = loops_at(self.trainer, checkpoint["global_step"], steps_per_epoch)

    def raise_if_broken(self, step: int | None) -> None:
        """Stop the run where `step` is one whose loss was not finite, unless trainer.on_nan=ignore."""
        if step is not None and self.config.trainer.on_nan == "stop":
            raise NotFiniteError(step, self.learning_rate())

    def learning_rate(self) -> float:
        """Of the first parameter group, at this step."""
        optimizer = self.trainer.optimizers[0]
        return float(optimizer.param_groups[0]["lr"])

    def _evaluate(self, batch: Batch, metrics: EvaluationMetrics) -> None:
        images, labels = batch
        logits = self(images)
        # The plain loss, without label smoothing: val/loss of two runs can then be compared.
        losses = functional.cross_entropy(logits.float(), labels, reduction="none")
        metrics.update(logits, labels, losses)


def seed_step(number: int, device: torch.device) -> None:
    """Seed the CPU's generator and the device's.

    torch.manual_seed seeds every kind of device; for one that isn't in use yet it keeps the call and the stack that
    led to it, which costs 200 µs a step and memory without end.
    """
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)


def mixing(trainer: Mapping[str, float], num_classes: int) -> Mixing | None:
    """mixup, cutmix or one of the two at random for each batch, by torchvision; None where both are off.

    Args:
        trainer: `mixup` and `cutmix`, the alphas of their Beta distributions.
        num_classes: labels become mixed one-hot targets [B, num_classes].
    """
    from torchvision.transforms import v2

    choices: list[Any] = []
    if trainer["mixup"] > 0:
        choices.append(v2.MixUp(alpha=trainer["mixup"], num_classes=num_classes))
    if trainer["cutmix"] > 0:
        choices.append(v2.CutMix(alpha=trainer["cutmix"], num_classes=num_classes))
    if not choices:
        return None
    mix: Mixing = choices[0] if len(choices) == 1 else v2.RandomChoice(choices)
    return mix
