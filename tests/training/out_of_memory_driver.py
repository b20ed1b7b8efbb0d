"""convoy on a machine whose GPU memory ends at one place, step and rank: the fault is put into this process.

    out_of_memory_driver.py <place> <step> <rank> <words of convoy ...>

The run that goes on is another program, in which nothing is wrong.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch

from convoy.commands.main import main
from convoy.training.lightning_module import TrainingModule

PLACES = {
    "forward": "training_step",
    "backward": "on_after_backward",
    "update": "optimizer_step",
    "validation": "validation_step",
}
"""The method of the Lightning module after which the fault occurs."""


def install(place: str, step: int, rank: str) -> None:
    """Let the method of that place fail once the run has done so many optimizer steps."""
    name = PLACES[place]
    whole = getattr(TrainingModule, name)

    def failing(self: TrainingModule, *args: Any) -> Any:
        result = whole(self, *args)
        if self.trainer.global_step == step and os.environ.get("LOCAL_RANK", "0") == rank:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return result

    setattr(TrainingModule, name, failing)


if __name__ == "__main__":
    install(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    sys.exit(main(sys.argv[4:]))
