"""Several optimizer steps in one of Lightning's, whose loop and hooks are then gone through once for all of them.

An execution (Keras's word: `steps_per_execution`) is one call of `training_step` that takes whole optimizer steps: each
with its own seed, accumulation, clipping, schedule, average and count, in the order in which Lightning does them. It
ends where something is due, a row of the log or a checkpoint, so that all that a run writes is the same bit for bit.
Between two executions the run can be stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from convoy.data.finish import Batch
from convoy.data.module import Batches, ImageData

if TYPE_CHECKING:
    from convoy.training.classifier import Classifier


class EachStep:
    """Marks a callback whose hooks for batches are called for each micro batch of an execution: by Lightning before the
    first and after the last, which it takes for those of its one batch, and between them by the execution."""


@dataclass(frozen=True)
class Execution:
    """The micro batches of whole optimizer steps, made one by one as they are trained on.

    Attributes:
        batches: gives them.
        num_steps: optimizer steps.
        accumulation: micro batches of each.
    """

    batches: Iterator[Batch]
    num_steps: int
    accumulation: int

    def __len__(self) -> int:
        """Micro batches."""
        return self.num_steps * self.accumulation


class Executions:
    """A sized iterable of executions over a loader of micro batches.

    Args:
        batches: the loader.
        steps: optimizer steps of each execution.
        accumulation: micro batches of each step.
    """

    def __init__(self, batches: Batches, steps: Sequence[int], accumulation: int) -> None:
        self._batches = batches
        self._steps = steps
        self._accumulation = accumulation

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[Execution]:
        batches = iter(self._batches)
        for num_steps in self._steps:
            yield Execution(batches, num_steps, self._accumulation)


class ExecutionData(ImageData):
    """Image data whose training batches come as executions.

    Args:
        most_steps: optimizer steps of an execution.
        due_every: optimizer steps after whose multiples something is due, which an execution doesn't go beyond.
        given: what `ImageData` takes.
    """

    def __init__(self, *given: Any, most_steps: int, due_every: Sequence[int], **named: Any) -> None:
        super().__init__(*given, **named)
        self._most_steps = most_steps
        self._due_every = due_every

    def train_dataloader(self) -> Executions:  # type: ignore[override]
        batches = super().train_dataloader()
        assert self.trainer is not None, "it gave the batches"
        first = self.trainer.global_step
        steps = lengths(first, first + len(batches) // self.accumulation, self._most_steps, self._due_every)
        return Executions(batches, steps, self.accumulation)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        if isinstance(batch, Execution):
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)


def lengths(first_step: int, end_step: int, most_steps: int, due_every: Sequence[int]) -> list[int]:
    """Optimizer steps of each execution from `first_step` to `end_step`.

    Args:
        first_step: optimizer steps done before.
        end_step: optimizer steps done in the end.
        most_steps: of an execution.
        due_every: an execution ends at each multiple of each of these.
    """
    steps, done = [], first_step
    while done < end_step:
        due = [(done // every + 1) * every for every in due_every]
        end = min(done + most_steps, end_step, *due)
        steps.append(end - done)
        done = end
    return steps


def execute(module: Classifier, execution: Execution) -> None:
    """Train on an execution's micro batches.

    Lightning calls `training_step` under autocast; here only forward passes are, as in its own optimization.
    """
    trainer = module.trainer
    callbacks: list[Any] = [one for one in trainer.callbacks if isinstance(one, EachStep)]  # type: ignore[attr-defined]
    optimizer: Any = module.optimizers()
    last = len(execution) - 1
    with torch.autocast(module.device.type, enabled=False):
        for number in range(len(execution)):
            batch, index = next(execution.batches), number % execution.accumulation
            if number > 0:
                for callback in callbacks:
                    callback.on_train_batch_start(trainer, module, batch, number)
            module.seed(index, execution.accumulation)
            with trainer.precision_plugin.forward_context():
                loss = module.loss(batch)
            module.manual_backward(loss / execution.accumulation)
            if index + 1 == execution.accumulation:
                optimizer.step()
                optimizer.zero_grad()
            if number < last:
                for callback in callbacks:
                    callback.on_train_batch_end(trainer, module, None, batch, number)
            del batch, loss  # they would lie beside the next ones
