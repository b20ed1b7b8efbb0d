"""Runner that ends a module after its first optimizer step.

It uses torch's global hook for optimizers, so that the unchanged program is timed.

    python -m benchmarks.first_step convoy.commands.main train data=fashion_mnist
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import Any

from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook


def _exit_after_step(optimizer: Optimizer, *_: Any) -> None:
    if any(parameter.is_meta for group in optimizer.param_groups for parameter in group["params"]):
        return  # a step on the meta device, which the ledger traces
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    register_optimizer_step_post_hook(_exit_after_step)
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    raise SystemExit("ended without an optimizer step")
