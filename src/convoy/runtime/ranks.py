"""Rank of this process, and the end of its process group."""

from __future__ import annotations

import os
from pathlib import Path

_RANK_VARIABLES = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
_LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_RUN_FOLDER = "CONVOY_RUN_FOLDER"


def is_first_rank() -> bool:
    """Return True if this process prints and writes for the run; known before a process group exists."""
    return next((os.environ[name] for name in _RANK_VARIABLES if name in os.environ), "0") == "0"


def is_launched() -> bool:
    """Return True if a launcher such as torchrun has started this rank and others."""
    return all(name in os.environ for name in _LAUNCHER_VARIABLES) and os.environ["WORLD_SIZE"] != "1"


def shared_run_folder() -> Path | None:
    """Return the run folder that the first rank shares with this later one; None in the first rank."""
    folder = os.environ.get(_RUN_FOLDER)
    return None if folder is None or is_first_rank() else Path(folder)


def share_run_folder(folder: Path | None) -> None:
    """Tell the ranks that this process starts which folder to write to; None: no longer."""
    if folder is None:
        os.environ.pop(_RUN_FOLDER, None)
    else:
        os.environ[_RUN_FOLDER] = str(folder)


def end_process_group() -> None:
    """Destroy the process group, if there is one.

    Gloo's worker threads hold tensors that Python owns. A thread that releases one while the interpreter is being
    finalized ends the process with SIGABRT, which hides its exit code.
    """
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
