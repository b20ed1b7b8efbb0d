"""Run `convoy` and pause once in a stage: `python pausing_driver.py <stage> <call> <words of convoy>`.

The process writes the file `reached-<rank>` in its working folder and waits until the file `sent` is there, so that a
test can send it a signal in that stage.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

STAGES = {
    "start": ("convoy.data.data_module", "ImageData.open"),
    "training": ("convoy.training.lightning_module", "TrainingModule.training_step"),
    "validation": ("convoy.training.lightning_module", "TrainingModule.validation_step"),
    "test": ("convoy.training.lightning_module", "TrainingModule.test_step"),
    "summary": ("convoy.training.summary", "summarize"),
    "page": ("convoy.report.pages.run_page", "run_page"),
    "export": ("convoy.export.formats", "write"),
}
"""Function that is paused at its n-th call, or at its only one."""

_ONCE = ("start", "summary", "page", "export")


def pause_in(stage: str, call: int) -> None:
    module, name = STAGES[stage]
    owner: Any = import_module(module)
    *parents, name = name.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    setattr(owner, name, _paused(getattr(owner, name), 1 if stage in _ONCE else call))


def _paused(function: Callable[..., Any], call: int) -> Callable[..., Any]:
    calls = 0

    def paused(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            Path(f"reached-{os.environ.get('LOCAL_RANK', '0')}").touch()
            while not Path("sent").exists():
                time.sleep(0.2)  # often enough, and little CPU time
        return function(*args, **kwargs)

    return paused


if __name__ == "__main__":
    from convoy.commands.main import main

    pause_in(sys.argv[1], int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
