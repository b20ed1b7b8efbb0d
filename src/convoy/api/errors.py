"""Errors of the Python API besides `UserError`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convoy.config.faults import Fault, UserError

if TYPE_CHECKING:
    from convoy.api.run_object import Run


class RunError(UserError):
    """Error for a run that began and did not finish, such as one whose loss is not finite.

    Attributes:
        run: the run, with everything that it has written.
    """

    def __init__(self, run: Run, status: str) -> None:
        self.run = run
        super().__init__(Fault("run", f"ended: {status}", "its run.log has the reason", str(run.path)))
