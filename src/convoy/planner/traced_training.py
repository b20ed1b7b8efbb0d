"""Training of a few steps over fake tensors, in the order of operations of Convoy's Lightning module.

Per micro batch: the batch, forward pass and loss under autocast, and backward pass. After the last micro batch:
clipping, the optimizer step, `zero_grad`, and the moving average. Three steps are needed, since the optimizer state,
which is allocated in the first step, fills gaps that this step left in the segments.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import Optimizer

from convoy.config.image_size import Sides
from convoy.data.batches.collate import Batch
from convoy.ledger.autocast import autocast
from convoy.ledger.rows import UntraceableError
from convoy.ledger.skeleton import fake_copy, without_torchs_tracebacks
from convoy.optim.fusing import is_fused
from convoy.optim.sharpness import perturbed
from convoy.planner.buckets import Buckets
from convoy.planner.dropout import fused_dropout
from convoy.planner.events import HOST, Recorder, Recording
from convoy.runtime.garbage_collection import without_collector
from convoy.tasks.task import Task, total_loss

STEPS = 3


@dataclass(frozen=True)
class Training:
    """Operations on a network in one training step.

    Attributes:
        input_shape: (channels, height, width) of an image.
        task: Task with the `training_losses` to trace.
        optimizer: Function that builds the optimizer of a network.
        precision: "32", "bf16-mixed" or "16-mixed".
        on_cuda: Whether the step runs on a GPU, with its autocast rules, fused dropout and foreach optimizers.
        accumulation: Micro batches per step.
        ranks: Data-parallel processes; above 1, gradients are views of DDP's buckets.
        clip_grad_norm: Whether gradients are clipped.
        averages: Whether a moving average of the weights is kept.
        sharpness_aware: Whether a second pass at moved weights gives the gradients.
        channels_last: Whether the images have this memory format.
    """

    input_shape: tuple[int, int, int]
    task: Task
    optimizer: Callable[[nn.Module], Optimizer]
    precision: str = "32"
    on_cuda: bool = True
    accumulation: int = 1
    ranks: int = 1
    clip_grad_norm: bool = False
    averages: bool = False
    sharpness_aware: bool = False
    channels_last: bool = True


def record(network: nn.Module, training: Training, batch: int) -> Recording:
    """Return the allocations and frees of three steps with a micro batch size. The network is not changed.

    Args:
        network: Network on any device, including meta.
        training: Operations of a step.
        batch: Samples per micro batch.

    Raises:
        UntraceableError: If the network or the optimizer needs tensor values, or the network rejects the batch.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    recorder = Recorder(on_cuda=training.on_cuda)
    try:
        with without_torchs_tracebacks(), warnings.catch_warnings(), without_collector():
            warnings.simplefilter("ignore")
            copied = fake_copy(network, mode).train()
            with mode, fused_dropout(on=training.on_cuda), recorder:
                run = _Run(copied, training, recorder)
                with recorder.following(copied):
                    run.steps(batch)
                return recorder.recording(batch)
    except Exception as error:  # a model may fail in any way if tensors have no values
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise UntraceableError(f"its training can't be traced without data ({said})") from error


class _Run:
    """State of a traced training."""

    def __init__(self, network: nn.Module, training: Training, recorder: Recorder) -> None:
        self._network, self._training, self._recorder = network, training, recorder
        for module_name, module in network.named_modules():
            recorder.hold(module.parameters(recurse=False), "parameters", module_name)
            recorder.hold(module.buffers(recurse=False), "buffers", module_name)
        self._parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._optimizer = training.optimizer(network)
        for group in self._optimizer.param_groups:
            if "foreach" in group:
                # The default of unfused optimizers on CUDA, set explicitly for the CPU.
                group["foreach"] = group["foreach"] is not False and not group.get("fused")
        recorder.category = "task_weights"
        resident = training.task.resident_bytes
        self._task_weights = torch.empty(resident, dtype=torch.uint8) if resident else None
        recorder.category = "averaged_weights"
        with torch.no_grad():
            state = [*network.parameters(), *network.buffers()] if training.averages else []
            self._averaged = [(torch.empty_like(tensor), tensor) for tensor in state]
        self._buckets = Buckets(self._parameters, recorder) if training.ranks > 1 else None
        for parameter in self._parameters:
            parameter.register_post_accumulate_grad_hook(self._mark_gradient)  # type: ignore[no-untyped-call]
        self._last_micro_batch = False
        self._held: tuple[Any, ...] = ()

    def steps(self, batch: int) -> None:
        """Run all steps. The last one repeats the records of the previous step if that step left no allocations."""
        for step in range(1, STEPS):
            place = self._recorder.place()
            self._step(step, batch)
        if not self._recorder.repeat(place, lambda phase: phase.replace(f"step {STEPS - 1}", f"step {STEPS}", 1)):
            self._step(STEPS, batch)

    def _step(self, step: int, batch: int) -> None:
        for micro_batch in range(self._training.accumulation):
            self._last_micro_batch = micro_batch == self._training.accumulation - 1
            place = f"step {step}" + (f", micro batch {micro_batch + 1}" if self._training.accumulation > 1 else "")
            self._micro_batch(batch, place)
        if self._training.sharpness_aware:
            self._recorder.phase, self._recorder.category = f"step {step}: perturbation", "saved_weights"
            with perturbed(self._parameters, 0.05):
                self._optimizer.zero_grad()
                self._micro_batch(batch, f"step {step}, second pass")
        self._update(f"step {step}")
        self._held = ()

    def _micro_batch(self, batch: int, place: str) -> None:
        recorder = self._recorder
        recorder.phase, recorder.category = f"{place}: batch", "inputs"
        # Lightning holds a batch, and Convoy's module its losses, until the next ones: also during the optimizer step.
        self._held = ()
        pixels, images, targets = self._batch(batch)
        recorder.phase, recorder.category = f"{place}: forward", "activations"
        losses = self._losses(Batch(images, targets))
        self._held = pixels, images, targets, {name: loss.detach() for name, loss in losses.items()}
        loss = total_loss(losses)
        del losses
        recorder.phase, recorder.category = f"{place}: backward", "temporaries"
        (loss / self._training.accumulation).backward()  # type: ignore[no-untyped-call]

    def _batch(self, batch: int) -> tuple[Tensor, Tensor, Any]:
        """Return uint8 pixels, the float32 images for the network, and their targets."""
        training = self._training
        memory_format = torch.channels_last if training.channels_last else torch.contiguous_format
        pixels = torch.empty(batch, *training.input_shape, dtype=torch.uint8)
        images = pixels.to(torch.float32, memory_format=memory_format)
        return pixels, images, training.task.example_targets(batch, Sides(*training.input_shape[1:]).value)

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        training = self._training
        with autocast(training.precision, on_cuda=training.on_cuda), _no_autocast_cache():
            losses = training.task.training_losses(self._network, batch)
            training.task.take_logged()
            return losses

    def _update(self, place: str) -> None:
        recorder = self._recorder
        recorder.phase, recorder.category = f"{place}: optimizer", "temporaries"
        if self._training.clip_grad_norm:
            nn.utils.clip_grad_norm_(self._parameters, 1.0, foreach=True)
        self._optimizer.step()
        fused = is_fused(self._optimizer)
        for state in self._optimizer.state.values():
            for name, value in state.items():
                if isinstance(value, Tensor):
                    # torch's optimizers keep the number of steps on the host, unless they are fused.
                    recorder.mark(value, HOST if name == "step" and not fused else "optimizer_state")
        self._optimizer.zero_grad()
        if self._averaged:
            real = [pair for pair in self._averaged if pair[0].is_floating_point()]
            with torch.no_grad():
                torch._foreach_lerp_([one for one, _ in real], [other for _, other in real], 0.5)

    def _mark_gradient(self, parameter: Tensor) -> None:
        if parameter.grad is None:
            return
        self._recorder.mark(parameter.grad, "gradients")
        if self._buckets is not None and self._last_micro_batch:
            self._buckets.take(parameter)


@contextmanager
def _no_autocast_cache() -> Iterator[None]:
    """Disable autocast's cache of weights, as Lightning does: weights are copied at each use."""
    was_on = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(was_on)
