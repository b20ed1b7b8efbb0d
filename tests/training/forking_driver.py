"""Runs of two ranks, forked from one process that has imported everything: `python forking_driver.py <number> <words>`.

The runs end in each way in turn. The exit codes of the ranks of each run are printed in one line, after its way.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any

import convoy.training.run  # noqa: F401  what takes seconds to import is inherited by the ranks
from convoy.commands.main import main
from convoy.config.faults import Fault, UserError
from convoy.training.lightning_module import TrainingModule

WAYS = {"finished": (0, 0), "stopped": (143, 0), "not finite": (1, 0), "user error": (2, 2), "exception": (1, 1)}
"""Exit codes of the first and the second rank. All ranks fail alike, since none watches the other."""


def rank_of_run(rank: int, port: int, way: str, words: list[str], folder: str) -> None:
    """Be a rank of a run, as torchrun starts it, and end as a process of its own does."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "forked",
    }
    log = os.open(f"{folder}-{rank}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    end_by(way, rank)
    extra = ["optimizer.lr=1e18", "scheduler=constant"] if way == "not finite" else []
    sys.exit(main(["train", *words, *extra, "trainer.processes=2", f"folder={folder}"]))


def end_by(way: str, rank: int) -> None:
    """End the run in its third step."""
    whole, calls = TrainingModule.training_step, 0

    def step(self: TrainingModule, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            if way == "stopped" and rank == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            if way == "user error":
                raise UserError(Fault("data.root", "is damaged"))
            if way == "exception":
                raise LookupError("a fault of the program")
        return whole(self, *args)

    TrainingModule.training_step = step  # type: ignore[method-assign]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    for number in range(int(sys.argv[1])):
        way = list(WAYS)[number % len(WAYS)]
        port, ranks = free_port(), []
        for rank in (0, 1):
            pid = os.fork()
            if pid == 0:
                rank_of_run(rank, port, way, sys.argv[2:], f"run-{number}")
            ranks.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in ranks]
        print(way, *codes, sep="\t", flush=True)
