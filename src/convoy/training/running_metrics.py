"""Training metrics as sums on the device, so that nothing waits for the GPU between two rows of the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed
from torch import Tensor

_NEVER = float(2**53)


class RunningMetrics:
    """Sums of losses, logged metrics and samples since the last row, and the first step whose loss was not finite.

    One float64 vector [samples, value 1, value 2, ...]: float64 keeps counts exact, and one vector lets several ranks
    agree in one reduction. MPS has no float64 and keeps float32.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None
        self._first_bad: Tensor | None = None
        self._is_alone = False
        self._step = -1
        self._whole: tuple[Tensor | None, Tensor | None] = (None, None)

    def fall_back(self, step: int) -> None:
        """Return to the sums after `step` whole steps, of this rank alone.

        For a rank that failed in the next step: the other ranks can't be asked any more.
        """
        self._is_alone = True
        if self._step == step:
            self._sums, self._first_bad = self._whole

    def add(self, losses: Mapping[str, Tensor], totals: Mapping[str, Tensor], num_samples: int, step: int) -> None:
        """Count one micro batch. The names must be the same for every micro batch.

        Args:
            losses: scalars, means over the micro batch; `loss` is the one that must stay finite.
            totals: scalars, sums over the samples of the micro batch.
            num_samples: samples of the micro batch.
            step: optimizer steps done before this one.
        """
        if step != self._step:
            self._step, self._whole = step, (self._sums, self._first_bad)
        loss = losses["loss"]
        kind = torch.float32 if loss.device.type == "mps" else torch.float64
        self._names = (*losses, *totals)
        values = [value.to(kind) * num_samples for value in losses.values()]
        values += [value.to(kind) for value in totals.values()]
        sums = torch.stack([torch.full_like(loss, num_samples, dtype=kind), *values])
        bad = torch.where(torch.isfinite(loss), _NEVER, float(step + 1)).to(kind)
        self._sums = sums if self._sums is None else self._sums.to(sums.device) + sums
        self._first_bad = bad if self._first_bad is None else torch.minimum(self._first_bad.to(bad.device), bad)

    def take(self) -> dict[str, float]:
        """Return the means over all ranks since the last call, as `train/<name>`, and start anew.

        Every rank must call it at the same step. `first_bad_step` is among the values where there is one.
        """
        reduced = self._over_ranks()
        self._sums = self._first_bad = None
        self._whole = (None, None)
        if reduced is None:
            return {}
        values = self._means(reduced[0])
        step = self.broken_at({"first_bad": reduced[1]})
        return values if step is None else values | {"first_bad_step": step}

    @staticmethod
    def broken_at(state: dict[str, Any] | None) -> int | None:
        """Return the first optimizer step, counted from 1, whose loss was not finite according to `state`."""
        first_bad = _NEVER if state is None else float(state["first_bad"])
        return None if first_bad >= _NEVER else int(first_bad)

    def peek(self) -> dict[str, float]:
        """Return this rank's means since the last row and keep the sums; waits for the device."""
        return {} if self._sums is None else self._means(self._sums)

    def state(self) -> dict[str, Any] | None:
        """Return the sums of all ranks, for a checkpoint between two rows. Every rank must call it."""
        reduced = self._over_ranks()
        if reduced is None:
            return None
        return {"names": list(self._names), "sums": reduced[0].cpu(), "first_bad": reduced[1].cpu()}

    def load(self, state: dict[str, Any] | None) -> None:
        """Continue from a checkpoint's sums; on one rank only, since they are those of all."""
        self._names = tuple(state["names"]) if state else ()
        self._sums = state["sums"] if state else None
        self._first_bad = state["first_bad"] if state else None

    def _means(self, sums: Tensor) -> dict[str, float]:
        count, *values = sums.tolist()
        return {f"train/{name}": value / count for name, value in zip(self._names, values, strict=True)}

    def _over_ranks(self) -> tuple[Tensor, Tensor] | None:
        if self._sums is None or self._first_bad is None:
            return None
        sums, first_bad = self._sums.clone(), self._first_bad.clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized() and not self._is_alone:
            torch.distributed.all_reduce(sums)
            torch.distributed.all_reduce(first_bad, op=torch.distributed.ReduceOp.MIN)
        return sums, first_bad
