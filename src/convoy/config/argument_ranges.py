"""Ranges of the arguments of optimizers, schedules and losses that come with Convoy.

Their classes take values outside of them without an error, or with one that names neither key nor value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convoy.config.faults import Fault
from convoy.config.trust import nested_targets


@dataclass(frozen=True)
class Range:
    """Range of a number, or of each number of a list.

    Attributes:
        low: smallest value.
        high: largest value.
        is_low_open: whether `low` itself is excluded.
        is_high_open: whether `high` itself is excluded.
    """

    low: float
    high: float = math.inf
    is_low_open: bool = False
    is_high_open: bool = False

    def __contains__(self, value: float) -> bool:
        is_above = value > self.low if self.is_low_open else value >= self.low
        return is_above and (value < self.high if self.is_high_open else value <= self.high)

    @property
    def rule(self) -> str:
        """Text such as `must be above 0 and at most 1`."""
        low = f"{'above' if self.is_low_open else 'at least'} {self.low:g}"
        if self.high == math.inf:
            return f"must be {low}"
        return f"must be {low} and {'below' if self.is_high_open else 'at most'} {self.high:g}"


_NOT_NEGATIVE, _POSITIVE, _AT_LEAST_ONE = Range(0), Range(0, is_low_open=True), Range(1)
_SHARE, _BELOW_ONE = Range(0, 1), Range(0, 1, is_high_open=True)
_DECAY = Range(0, 1, is_low_open=True, is_high_open=True)

_ADAM = {"betas": _BELOW_ONE, "eps": _NOT_NEGATIVE}
_FINAL = {"final_fraction": _SHARE}

_RANGES: Mapping[str, Mapping[str, Range]] = {
    "torch.optim.SGD": {"momentum": _BELOW_ONE},
    "torch.optim.RMSprop": {"momentum": _BELOW_ONE, "alpha": _SHARE, "eps": _NOT_NEGATIVE},
    "torch.optim.Adam": _ADAM,
    "torch.optim.AdamW": _ADAM,
    "timm.optim.Adan": _ADAM,
    "timm.optim.Lamb": _ADAM,
    "timm.optim.Lion": _ADAM,
    "timm.optim.NAdamW": _ADAM,
    "timm.optim.Lars": {"momentum": _BELOW_ONE, "trust_coeff": _POSITIVE},
    "timm.optim.Muon": {"momentum": _BELOW_ONE},
    "torch.optim.lr_scheduler.StepLR": {"gamma": _POSITIVE, "step_size": _AT_LEAST_ONE},
    "torch.optim.lr_scheduler.MultiStepLR": {"gamma": _POSITIVE, "milestones": _NOT_NEGATIVE},
    "torch.optim.lr_scheduler.ReduceLROnPlateau": {"factor": _DECAY, "patience": _NOT_NEGATIVE},
    "torch.optim.lr_scheduler.OneCycleLR": {
        "max_lr": _POSITIVE,
        "pct_start": _SHARE,
        "div_factor": _POSITIVE,
        "final_div_factor": _POSITIVE,
        "base_momentum": _BELOW_ONE,
        "max_momentum": _BELOW_ONE,
    },
    "convoy.optim.schedules.cosine": _FINAL,
    "convoy.optim.schedules.linear": _FINAL,
    "convoy.optim.schedules.polynomial": {**_FINAL, "power": _POSITIVE},
    "convoy.optim.schedules.cosine_restarts": {**_FINAL, "cycle_epochs": _POSITIVE, "cycle_growth": _AT_LEAST_ONE},
    "convoy.tasks.losses.FocalLoss": {"gamma": _NOT_NEGATIVE, "weight": _NOT_NEGATIVE},
    "convoy.tasks.image_losses.CharbonnierLoss": {"epsilon": _NOT_NEGATIVE},
    "convoy.tasks.image_losses.SSIMLoss": {"share": _SHARE},
    "convoy.tasks.perceptual_loss.PerceptualLoss": {"layer": _NOT_NEGATIVE, "pixel_weight": _NOT_NEGATIVE},
    "torch.nn.HuberLoss": {"delta": _POSITIVE},
    "torch.nn.SmoothL1Loss": {"beta": _NOT_NEGATIVE},
    "torch.nn.BCEWithLogitsLoss": {"pos_weight": _NOT_NEGATIVE},
    "torch.nn.CrossEntropyLoss": {"label_smoothing": _BELOW_ONE, "weight": _NOT_NEGATIVE},
}
"""Ranges by `_target_` and argument. Classes of the user have none."""


def range_faults(group: str, node: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield the arguments of a group, or of a target nested in it, that are outside of their range."""
    for key, target in nested_targets(node, group):
        for name, allowed in _RANGES.get(str(target["_target_"]), {}).items():
            for value in _numbers(target.get(name)):
                if value not in allowed:
                    yield Fault(f"{key}.{name}", allowed.rule, "", f"{value:g}")


def _numbers(value: Any) -> Sequence[float]:
    values = value if isinstance(value, list | tuple) else [value]
    return [one for one in values if isinstance(one, int | float) and not isinstance(one, bool)]
