"""Lightning module that trains a network on a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MetricCollection

from convoy.config.schema import Config
from convoy.data.batches.collate import Batch
from convoy.models.building.freezing import frozen_norms
from convoy.models.building.recompute import without_statistics
from convoy.optim.build_optimizer import build_optimizer
from convoy.optim.fusing import gradient_scale, may_fuse
from convoy.optim.sharpness import perturbed
from convoy.records.mistakes import Mistakes
from convoy.runs.layout import FORMAT
from convoy.tasks.construction import metrics_of
from convoy.tasks.task import Task, total_loss
from convoy.tasks.task_report import Report
from convoy.training.loop_state import loops_at
from convoy.training.running_metrics import RunningMetrics


class NotFiniteError(Exception):
    """The loss or a weight became NaN or infinite.

    Attributes:
        step: the optimizer step (counted from 1) at which it did.
        learning_rate: at that step, or where it was noticed.
        operation: torch's message on the operation, with debug.detect_anomaly; else empty.
    """

    def __init__(self, step: int, learning_rate: float, operation: str = "", what: str = "the loss is") -> None:
        self.step, self.learning_rate, self.operation = step, learning_rate, operation
        reason = f": {operation}; debug.log has its forward call" if operation else ""
        super().__init__(f"{what} not finite at step {step} (learning rate {learning_rate:g}){reason}")


class TrainingModule(pl.LightningModule):
    """Trains and evaluates a network on the batches of a task.

    Args:
        network: the model; its weights are `network.…` in a checkpoint's state dict.
        config: of the run.
        task: losses and metrics.

    Attributes:
        running: sums of the training metrics since the last row that was logged, on the device.
        latest: the newest value of every metric, for the progress bar and the summary.
        losses: the task's losses of the last micro batch, on the device.
        test_report: results of a test beyond scalar metrics.
        mistakes: images of a test with the worst predictions.
        tested: split of the test: `val` for a run without a test split.
    """

    def __init__(self, network: nn.Module, config: Config, task: Task) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.task = task
        self.running = RunningMetrics()
        self.latest: dict[str, float] = {}
        self.losses: dict[str, Tensor] = {}
        self._is_logging = True
        self.test_report = Report()
        self.mistakes = Mistakes(task, config.data)
        self.tested = "test"
        self.val_metrics = metrics_of(task, config, "val")
        self.test_metrics = metrics_of(task, config, "test")
        self._frozen_norms: list[nn.Module] = []
        self.freeze_norms(epoch=0)

    def freeze_norms(self, epoch: int) -> None:
        """Set the mode of all modules for training after a number of epochs."""
        self._frozen_norms = frozen_norms(self.network, self.config.model, self.task.num_outputs, epoch)
        self.train()

    def train(self, mode: bool = True) -> TrainingModule:
        """Set the mode of all modules except frozen batch norms, whose statistics would otherwise keep changing."""
        super().train(mode)
        for norm in self._frozen_norms:
            norm.training = False  # not `eval()`, which includes a norm's stochastic depth
        return self

    def forward(self, images: Tensor) -> Any:
        """Return the network's outputs for images [B, C, H, W]."""
        return self.network(images)

    def configure_optimizers(self) -> Optimizer:
        clips = self.config.trainer.clip_grad_norm is not None
        fuse = may_fuse(self.device.type, str(self.trainer.precision), clips=clips)
        # torch's fused SGD fails where some parameters of a group have had no gradient yet.
        fuse = fuse and self.config.model.get("unfreeze_epoch") is None
        return build_optimizer(self.config.optimizer, self.network, fuse=fuse)

    def on_train_epoch_start(self) -> None:
        self.task.epoch = self.current_epoch

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

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the total norm of the gradients, also for fused optimizers, which Lightning refuses in bf16-mixed."""
        if not gradient_clip_val:
            return
        scale = gradient_scale(self.trainer.precision_plugin, optimizer)
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(parameters, gradient_clip_val * scale)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        radius = self.config.trainer.sam_radius
        if radius is not None and optimizer_closure is not None:
            optimizer_closure = partial(self._sharpness_aware, optimizer_closure, radius)
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        # Now rather than in the next step, where Lightning does it: there gradients and activations would add up.
        for optimizer in self.trainer.optimizers:
            optimizer.zero_grad()

    def _sharpness_aware(self, closure: Callable[[], Any], radius: float) -> Any:
        """Run a closure of forward and backward pass again at weights moved along its gradient.

        The second pass draws the same, and neither logs nor changes running statistics.
        """
        result = closure()
        self._is_logging = False
        try:
            with perturbed(self.network.parameters(), radius), without_statistics([self.network]):
                self.seed(0, 1)
                closure()
        finally:
            self._is_logging = True
        return result

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.loss(Batch(*batch))

    def loss(self, batch: Batch) -> Tensor:
        """Return the sum of the task's losses of a micro batch, a scalar, and count it for the log."""
        losses = self.task.training_losses(self.network, batch)
        total = total_loss(losses)
        if not self._is_logging:
            self.task.take_logged()
            return total
        values = {"loss": total.detach()}
        self.losses = {name: value.detach() for name, value in losses.items()}
        if len(losses) > 1:
            values |= self.losses
        self.running.add(values, self.task.take_logged(), len(batch.images), self.trainer.global_step)
        return total

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        try:
            super().backward(loss, *args, **kwargs)
        except RuntimeError as error:
            if not self.config.debug.detect_anomaly or "returned nan values" not in str(error):
                raise
            operation = str(error).splitlines()[0].rstrip(".")
            raise NotFiniteError(self.trainer.global_step + 1, self.learning_rate(), operation) from error

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.task.update(self.val_metrics, self.network, Batch(*batch))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        batch = Batch(*batch)
        self.mistakes.add(self.task.update(self.test_metrics, self.network, batch), batch)

    def on_validation_epoch_end(self) -> None:
        values = self._computed(self.val_metrics, "val")
        self.val_metrics.reset()
        self.latest.update(values)
        # For callbacks that watch a metric; the rows are written by the recorder.
        self.log_dict(values, logger=False)

    def on_test_epoch_end(self) -> None:
        values = self._computed(self.test_metrics, self.tested)
        self.test_report = self.task.report(self.test_metrics)
        self.test_metrics.reset()
        if self.tested == "test":  # the values of val are those of the best checkpoint already
            self.latest.update(values)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = self.running.state()
        # Here too, so that no checkpoint of broken weights takes the place of a good one.
        self.raise_if_broken(self.running.broken_at(state))
        self._raise_if_weights_are_broken()
        checkpoint["running_metrics"] = state
        # For the summary of a run that resumes after its last row.
        checkpoint["latest"] = {name: value for name, value in self.latest.items() if name.startswith("train/")}
        checkpoint["convoy"] = self._identity

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """Format, config and names of the targets, which make a checkpoint usable alone, as plain containers."""
        return {"format": FORMAT, "config": asdict(self.config), "target_names": list(self.task.targets.names)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.trainer.state.fn != "fit":
            return
        self.latest.update(checkpoint.get("latest") or {})
        if self.trainer.is_global_zero:
            self.running.load(checkpoint.get("running_metrics"))
        steps_per_epoch = self.trainer.datamodule.steps_per_epoch(self.trainer.world_size)  # type: ignore[attr-defined]
        checkpoint["loops"] = loops_at(self.trainer, checkpoint["global_step"], steps_per_epoch)

    def raise_if_broken(self, step: int | None) -> None:
        """Stop the run where `step` is one whose loss was not finite, unless trainer.on_nan=ignore."""
        if step is not None and self.config.trainer.on_nan == "stop":
            raise NotFiniteError(step, self.learning_rate())

    def _raise_if_weights_are_broken(self) -> None:
        """Stop the run if its last step has made a weight NaN or infinite, which only the next loss would show."""
        if self.config.trainer.on_nan != "stop":
            return
        # A sum is finite as long as all of its terms are, and 0 times a number that is not finite is NaN.
        sums = [(weight.detach() * 0).sum(dtype=torch.float32) for weight in self.network.parameters()]
        if sums and not bool(torch.stack(sums).sum() == 0):
            raise NotFiniteError(self.trainer.global_step, self.learning_rate(), what="weights are")

    def learning_rate(self) -> float:
        """Return the learning rate at this step, with layer decay that of the head."""
        return max(float(group["lr"]) for group in self.trainer.optimizers[0].param_groups)

    def _computed(self, metrics: MetricCollection, split: str) -> dict[str, float]:
        return {f"{split}/{name}": value for name, value in self.task.compute(metrics).items()}


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
