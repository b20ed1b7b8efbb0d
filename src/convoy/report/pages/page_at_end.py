"""Page of a run at its end. Imports nothing else of the report before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convoy.config.schema import Config
from convoy.runtime.ranks import is_first_rank

if TYPE_CHECKING:
    from convoy.training.run import Outcome


def print_page(config: Config, outcome: Outcome) -> None:
    """Write the page of a run that has ended by itself, and print a line about it."""
    if config.report and is_first_rank() and outcome.summary.get("status") in ("finished", "not finite"):
        from convoy.report.pages.run_page import write_at_end

        print(write_at_end(outcome.run))
