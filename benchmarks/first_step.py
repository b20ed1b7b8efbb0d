"""Run a module until its first optimizer step is done, then end the process.

By a hook of torch's on all optimizers, so that what is timed is the program that people run.

    python -m benchmarks.first_step convoy.commands.main train data=fashion_mnist
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import Any

from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook


def _leave(optimizer: Optimizer, *_: Any) -> None:
    if any(parameter.is_meta for group in optimizer.param_groups for parameter in group["params"]):
        return  # a step of tensors without memory, by which the ledger counts
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    register_optimizer_step_post_hook(_leave)
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    raise SystemExit("ended without an optimizer step")
