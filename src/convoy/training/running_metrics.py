"""Training metrics as sums on the device, so that nothing waits for the GPU between two rows of the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor

_NEVER = float(2**53)


@dataclass(frozen=True)
class _Sums:
    """Sums over the micro batches since the last row.

    Attributes:
        losses: one per loss, weighted with the samples.
        totals: one per total; None if there are none.
        num_finite: micro batches before the first whose loss was not finite, a scalar.
        num_samples: samples of all micro batches.
        num_micro_batches: number of micro batches.
    """

    losses: Tensor
    totals: Tensor | None
    num_finite: Tensor
    num_samples: int
    num_micro_batches: int


class RunningMetrics:
    """Sums of losses, logged metrics and samples since the last row, and the first step whose loss was not finite.

    The sums are in float64, which keeps counts exact. MPS has no float64 and keeps float32. A micro batch takes five
    operations on the device if there is one loss and one total.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sums: _Sums | None = None
        self._steps: list[int] = []
        self._loaded: tuple[Tensor, Tensor] | None = None
        self._is_alone = False
        self._step = -1
        self._whole: _Sums | None = None

    def fall_back(self, step: int) -> None:
        """Return to the sums after `step` whole steps, of this rank alone.

        For a rank that failed in the next step: the other ranks can't be asked any more.
        """
        self._is_alone = True
        if self._step == step:
            self._sums = self._whole

    def add(self, losses: Mapping[str, Tensor], totals: Mapping[str, Tensor], num_samples: int, step: int) -> None:
        """Count one micro batch. The names must be the same for every micro batch.

        Args:
            losses: scalars, means over the micro batch; the first, `loss`, is the one that must stay finite.
            totals: scalars, sums over the samples of the micro batch.
            num_samples: samples of the micro batch.
            step: optimizer steps done before this one.
        """
        if step != self._step:
            self._step, self._whole = step, self._sums
        self._names = (*losses, *totals)
        means = _vector(losses)
        before = self._sums or self._start(len(losses), means.device)
        added = torch.add(before.losses, means, alpha=num_samples)
        # A sum is finite as long as all of its terms are, and 0 times a number that is not finite is NaN.
        is_finite = (added[0] * 0) == 0
        self._steps[before.num_micro_batches :] = [step]
        self._sums = _Sums(
            added,
            None if before.totals is None else before.totals + _vector(totals),
            before.num_finite + is_finite,
            before.num_samples + num_samples,
            before.num_micro_batches + 1,
        )

    def take(self) -> dict[str, float]:
        """Return the means over all ranks since the last call, as `train/<name>`, and start anew.

        Every rank must call it at the same step. `first_bad_step` is among the values where there is one.
        """
        reduced = self._over_ranks()
        self._sums = self._whole = self._loaded = None
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
        found = self._vectors()
        return {} if found is None else self._means(found[0])

    def state(self) -> dict[str, Any] | None:
        """Return the sums of all ranks, for a checkpoint between two rows. Every rank must call it."""
        reduced = self._over_ranks()
        if reduced is None:
            return None
        return {"names": list(self._names), "sums": reduced[0].cpu(), "first_bad": reduced[1].cpu()}

    def load(self, state: dict[str, Any] | None) -> None:
        """Continue from a checkpoint's sums; on one rank only, since they are those of all."""
        self._names = tuple(state["names"]) if state else ()
        self._loaded = (state["sums"], state["first_bad"]) if state else None

    def _means(self, sums: Tensor) -> dict[str, float]:
        count, *values = sums.tolist()
        return {f"train/{name}": value / count for name, value in zip(self._names, values, strict=True)}

    def _over_ranks(self) -> tuple[Tensor, Tensor] | None:
        found = self._vectors()
        if found is None:
            return None
        sums, first_bad = found
        if torch.distributed.is_available() and torch.distributed.is_initialized() and not self._is_alone:
            torch.distributed.all_reduce(sums)
            torch.distributed.all_reduce(first_bad, op=torch.distributed.ReduceOp.MIN)
        return sums, first_bad

    def _vectors(self) -> tuple[Tensor, Tensor] | None:
        """Return [samples, value 1, value 2, ...] and the first bad step of this rank; waits for the device."""
        if self._sums is None:
            return None if self._loaded is None else (self._loaded[0].clone(), self._loaded[1].clone())
        sums = self._sums
        parts = [sums.losses.new_full((1,), sums.num_samples), sums.losses]
        whole = torch.cat(parts if sums.totals is None else [*parts, sums.totals])
        num_finite = int(sums.num_finite)
        is_broken = num_finite < sums.num_micro_batches
        first_bad = whole.new_tensor(self._steps[num_finite] + 1 if is_broken else _NEVER)
        if self._loaded is not None:
            first_bad = torch.minimum(first_bad, self._loaded[1].to(first_bad))
        return whole, first_bad

    def _start(self, num_losses: int, device: torch.device) -> _Sums:
        """Return the sums before the first micro batch: those of a checkpoint, or zeros."""
        kind = torch.float32 if device.type == "mps" else torch.float64
        if self._loaded is None:
            vector = torch.zeros(len(self._names), dtype=kind, device=device)
            num_samples = 0
        else:
            num_samples = int(self._loaded[0][0])
            vector = self._loaded[0][1:].to(device, kind)
        losses, totals = vector[:num_losses], vector[num_losses:]
        return _Sums(losses, totals if len(totals) else None, vector.new_zeros(()), num_samples, 0)


def _vector(values: Mapping[str, Tensor]) -> Tensor:
    """Return scalars as one vector, in float32 or a wider type."""
    # A conversion to the same type and the stack of one value take no operation on the device.
    found = [value if value.dtype == torch.float64 else value.to(torch.float32) for value in values.values()]
    return found[0].reshape(1) if len(found) == 1 else torch.stack(found)
