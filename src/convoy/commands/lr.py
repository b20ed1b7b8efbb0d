"""convoy lr: learning-rate range test of a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from convoy.commands.declaration.verb import AtLeast, Call, Verb
from convoy.config.faults import Fault


@dataclass(frozen=True)
class LearningRate(Verb):
    """Suggest a learning rate by a range test.

    Trains the network of a run on its data, with a learning rate that grows
    exponentially from lowest to highest, and prints the rate at which the
    smoothed loss falls fastest. Ends early where the loss diverges. Only the
    files in output are written.

      convoy lr model=resnet20 data=cifar10
      convoy lr model=resnet20 optimizer=adamw highest=0.1 output=range
    """

    lowest: Annotated[float, AtLeast(1e-12)] = 1e-6
    """Learning rate of the first step."""
    highest: Annotated[float, AtLeast(1e-12)] = 10.0
    """Learning rate of the last step."""
    steps: Annotated[int, AtLeast(20)] = 100
    """Optimizer steps."""
    output: Path | None = None
    """Folder for lr_range.csv and lr_range.png; null: no files."""

    overrides = None
    folder_keys = ("output",)
    checks_config = True
    instead_of_multirun = "run the test for each network"

    def faults(self) -> Iterator[Fault]:
        """Yield a fault if the range is empty."""
        if self.highest <= self.lowest:
            yield Fault("highest", f"must be above lowest={self.lowest:g}", "write a larger one", f"{self.highest:g}")


ARGUMENTS = LearningRate


def run(given: LearningRate, call: Call) -> int:
    """Run the test and print its result."""
    from convoy.runtime.allocator_settings import use_allocator
    from convoy.training import preflight

    config = preflight.read(call.overrides, call.options)
    preflight.check_launch(config)
    use_allocator(config.hardware)
    from convoy.records.console import Console
    from convoy.runs.layout import shown
    from convoy.training.range_test import range_test

    Console().log_to(None)
    found = range_test(config, given.lowest, given.highest, given.steps)
    if len(found.rates) < 2:
        raise _no_loss(given)
    low, high = f"{found.rates[0]:.2g}", f"{found.rates[-1]:.2g}"
    end = f"diverged at {high}" if found.diverged else f"ended at {high}"
    print(f"{len(found.rates)} steps from a learning rate of {low}; {end}")
    if found.suggestion is None:
        remedy = "a smaller lowest=" if found.diverged else "a larger highest="
        print(f"no suggestion: the loss does not fall. Write {remedy}, or check the training with debug=overfit")
    else:
        print(f"loss lowest at {found.lowest_rate:.2g}, falls fastest at {found.suggestion:.2g}")
        print(f"suggestion: optimizer.lr={found.suggestion:.2g}")
    if given.output is not None:
        from convoy.report.range_plot import write_range_test

        for path in write_range_test(found, given.output):
            print(shown(path))
    return 0


def _no_loss(given: LearningRate) -> Exception:
    from convoy.config.faults import UserError

    return UserError(Fault("lowest", "gives no finite loss", "write a smaller one", f"{given.lowest:g}"))
