"""Run `convoy` and write the process group's number of collectives at each step's start to `collectives-<rank>.json`.

collectives_driver.py <words of convoy ...>
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch.distributed

from convoy.commands.main import main
from convoy.runtime.process_end import end_with
from convoy.training.lightning_module import TrainingModule

NUMBERS: list[int] = []


def install() -> None:
    whole = TrainingModule.on_train_batch_start

    def counting(self: TrainingModule, *args: Any) -> None:
        group = torch.distributed.group.WORLD
        assert group is not None
        NUMBERS.append(group._get_sequence_number_for_group())
        whole(self, *args)

    TrainingModule.on_train_batch_start = counting  # type: ignore[method-assign]


def run() -> int:
    """Run the command and write the numbers."""
    install()
    code = main(sys.argv[1:])
    Path(f"collectives-{os.environ.get('LOCAL_RANK', '0')}.json").write_text(json.dumps(NUMBERS))
    return code


if __name__ == "__main__":
    end_with(run)
