"""Sums of losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from convoy.config.faults import Fault, UserError
from convoy.tasks.mean_loss import losses_per_sample


class SumOfLosses(nn.Module):
    """Weighted sum of losses.

    Args:
        terms: losses by name.
        factors: factor of each; 1 for a term without one.
        reduction: `mean` for a scalar, or `none` for one value per sample.

    Raises:
        UserError: a factor has no term.
    """

    def __init__(
        self,
        terms: Mapping[str, Callable[[Tensor, Tensor], Tensor]],
        factors: Mapping[str, float] | None = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        if unknown := [name for name in factors or {} if name not in terms]:
            rule = "has no term of this name"
            raise UserError(Fault(f"loss.factors.{unknown[0]}", rule, f"the terms are {', '.join(terms)}"))
        self._terms = dict(terms)
        self._factors = {name: float((factors or {}).get(name, 1.0)) for name in terms}
        self._reduction = reduction
        # So that their class weights move to the device.
        self.modules_of_terms = nn.ModuleList(term for term in terms.values() if isinstance(term, nn.Module))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sum for outputs and targets as each term takes them."""
        values = []
        for name, term in self._terms.items():
            value = term(outputs, targets)
            value = losses_per_sample(value, targets) if self._reduction == "none" else value
            values.append(self._factors[name] * value)
        return torch.stack(values).sum(0)

    def prepare(self) -> None:
        """Load what the terms need (see `ConfiguredLoss.prepare`)."""
        for term in self._terms.values():
            if prepare := getattr(term, "prepare", None):
                prepare()

    @property
    def resident_bytes(self) -> int:
        """Memory of what `prepare` loaded."""
        return sum(int(getattr(term, "resident_bytes", 0)) for term in self._terms.values())
