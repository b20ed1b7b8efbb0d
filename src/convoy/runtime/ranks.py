"""Rank of this process, and the end of its process group."""

from __future__ import annotations

import os
from pathlib import Path

_LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_NODE_VARIABLES = ("NODE_RANK", "GROUP_RANK")
_OTHER_LAUNCHERS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "JSM_NAMESPACE_RANK")
"""Ranks of mpirun and jsrun, whose processes also train apart from each other, each on one node."""

_RUN_FOLDER = "CONVOY_RUN_FOLDER"


def is_first_rank() -> bool:
    """Return True if this process prints and writes for the run; known before a process group exists.

    A rank that another rank has started (LOCAL_RANK) inherits RANK and SLURM_PROCID, such as in the shell of
    `srun --pty bash`. Without RANK, a process is the first of its node (NODE_RANK) only.
    """
    others = () if "RANK" in os.environ else ("SLURM_PROCID", *_NODE_VARIABLES)
    return not _nonzero("RANK", "LOCAL_RANK", *others)


def is_launched() -> bool:
    """Return True if a launcher such as torchrun has started this rank and others."""
    return all(name in os.environ for name in _LAUNCHER_VARIABLES) and os.environ["WORLD_SIZE"] != "1"


def incomplete_launch(nodes: int) -> tuple[str, list[str]] | None:
    """Return the variable of a launcher whose ranks can't be known, and the variables that it leaves unset.

    Lightning counts ranks by NODE_RANK (torchrun: GROUP_RANK) and LOCAL_RANK, and the ranks agree on a run's folder by
    the others. A launcher that sets only NODE_RANK starts one process per node, each of which would take itself for
    the first rank. None in a step of Slurm, in a rank that another rank has started, and for a process alone.

    Args:
        nodes: number of nodes of the run.
    """
    if "SLURM_PROCID" in os.environ or _RUN_FOLDER in os.environ:
        return None
    needed = (*_LAUNCHER_VARIABLES, "LOCAL_RANK")
    missing = [name for name in needed if name not in os.environ]
    if nodes > 1 and not any(name in os.environ for name in _NODE_VARIABLES):
        missing.append("NODE_RANK")
    known = (*_NODE_VARIABLES, *needed, *(_OTHER_LAUNCHERS if nodes > 1 else ()))
    found = [name for name in known if name in os.environ]
    others = _nonzero("RANK", "LOCAL_RANK", *_NODE_VARIABLES)
    if not missing or not found or not (others or nodes > 1 or is_launched()):
        return None
    return (others or found)[0], missing


def _nonzero(*names: str) -> list[str]:
    return [name for name in names if os.environ.get(name, "0") != "0"]


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
