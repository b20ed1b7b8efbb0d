"""Training metrics as sums on the device: nothing waits for the GPU between two rows of the log."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import Tensor

_NEVER = float(2**53)


class RunningMetrics:
    """Sums of loss, hits and samples since the last row, and the first step whose loss was not finite.

    One float64 vector [loss x samples, correct, samples, first bad step]: float64 so that counts stay exact, and
    one vector so that several ranks agree in one reduction. MPS has no float64 and keeps float32.
    """

    def __init__(self) -> None:
        self._sums: Tensor | None = None
        self._first_bad: Tensor | None = None
        self._is_alone = False
        self._step = -1
        self._whole: tuple[Tensor | None, Tensor | None] = (None, None)

    def fall_back(self, step: int) -> None:
        """To the sums after so many whole steps, of this rank alone: one has failed in the next step, and the others
        can't be asked any more."""
        self._is_alone = True
        if self._step == step:
            self._sums, self._first_bad = self._whole

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor, step: int) -> None:
        """Count one micro batch.

        Args:
            loss: mean over the batch, a scalar.
            logits: [B, num_classes].
            labels: [B].
            step: optimizer steps done before this one.
        """
        if step != self._step:
            self._step, self._whole = step, (self._sums, self._first_bad)
        count = labels.shape[0]
        correct = (logits.argmax(1) == labels).sum()
        kind = torch.float32 if loss.device.type == "mps" else torch.float64
        sums = torch.stack([loss.to(kind) * count, correct.to(kind), torch.full_like(correct, count, dtype=kind)])
        bad = torch.where(torch.isfinite(loss), _NEVER, float(step + 1)).to(kind)
        self._sums = sums if self._sums is None else self._sums.to(sums.device) + sums
        self._first_bad = bad if self._first_bad is None else torch.minimum(self._first_bad.to(bad.device), bad)

    def take(self) -> dict[str, float]:
        """Means over all ranks since the last call, and a new beginning; empty where nothing was counted.

        Every rank must call it at the same step. `first_bad_step` is among the values where there is one.
        """
        reduced = self._over_ranks()
        self._sums = self._first_bad = None
        self._whole = (None, None)
        if reduced is None:
            return {}
        loss, correct, count = reduced[0].tolist()
        values = {"train/loss": loss / count, "train/top1": correct / count}
        step = self.broken_at({"first_bad": reduced[1]})
        return values if step is None else values | {"first_bad_step": step}

    @staticmethod
    def broken_at(state: dict[str, Any] | None) -> int | None:
        """The first optimizer step, counted from 1, whose loss was not finite, by the sums of `state`."""
        first_bad = _NEVER if state is None else float(state["first_bad"])
        return None if first_bad >= _NEVER else int(first_bad)

    def peek(self) -> dict[str, float]:
        """This rank's means since the last row, which stay as they are; waits for the device."""
        if self._sums is None:
            return {}
        loss, correct, count = self._sums.tolist()
        return {"train/loss": loss / count, "train/top1": correct / count}

    def state(self) -> dict[str, Any] | None:
        """All ranks' sums together, for a checkpoint written between two rows. Every rank must call it."""
        reduced = self._over_ranks()
        return None if reduced is None else {"sums": reduced[0].cpu(), "first_bad": reduced[1].cpu()}

    def load(self, state: dict[str, Any] | None) -> None:
        """Go on from a checkpoint's sums; on one rank only, since they are those of all."""
        self._sums = state["sums"] if state else None
        self._first_bad = state["first_bad"] if state else None

    def _over_ranks(self) -> tuple[Tensor, Tensor] | None:
        if self._sums is None or self._first_bad is None:
            return None
        sums, first_bad = self._sums.clone(), self._first_bad.clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized() and not self._is_alone:
            torch.distributed.all_reduce(sums)
            torch.distributed.all_reduce(first_bad, op=torch.distributed.ReduceOp.MIN)
        return sums, first_bad
