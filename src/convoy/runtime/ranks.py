"""Rank of this process, and the end of its process group."""

from __future__ import annotations

import os

import torch.distributed

_RANK_VARIABLES = ("RANK", "SLURM_PROCID", "LOCAL_RANK")


def is_first_rank() -> bool:
    """Return True if this process prints and writes for the run; known before a process group exists."""
    return next((os.environ[name] for name in _RANK_VARIABLES if name in os.environ), "0") == "0"


def end_process_group() -> None:
    """Destroy the process group, if there is one.

    Gloo's worker threads hold tensors that Python owns. A thread that releases one while the interpreter is being
    finalized ends the process with SIGABRT, which hides its exit code.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
