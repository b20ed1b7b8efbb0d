"""convoy plan: peak GPU memory of a training, and the largest micro batch size that fits a card."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from convoy.api.plans import named_cards, plan_of, plans_of
from convoy.commands.declaration.verb import Call, Verb


@dataclass(frozen=True)
class PlanArguments(Verb):
    """Predict the peak GPU memory of a training.

    Also predicts the largest micro batch size that fits the card. Neither data
    nor weights nor a GPU are needed. hardware=* prints one line per card,
    hardware=v100,a40 the lines of these two. See docs/planner.md.

      convoy plan model=resnet50 data=imagenet optimizer=sgd hardware=v100
      convoy plan model=vgg16 data=imagenet 'hardware=*'
      convoy plan model=vgg16 data=imagenet hardware.usable_bytes=16000000000 \\
          hardware.context_bytes=500000000 format=json
    """

    format: Literal["terminal", "json"] = "terminal"
    """Format of the prediction; json has sizes in bytes, and a list for several
    cards."""

    overrides = None
    checks_config = True
    instead_of_multirun = "name several cards with hardware=v100,a40"


ARGUMENTS = PlanArguments


def run(given: PlanArguments, call: Call) -> int:
    """Print a prediction, or one per card."""
    cards = named_cards(call.overrides, call.options)
    found = plan_of(call.overrides, call.options) if cards is None else plans_of(call.overrides, call.options, cards)
    if given.format == "json":
        print(json.dumps(found.as_data(), indent=2))
    else:
        print(repr(found))
    return 0
