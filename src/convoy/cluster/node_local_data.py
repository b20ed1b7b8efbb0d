"""Copies a data folder to each node's own disk before the ranks start."""

from __future__ import annotations

import subprocess
from pathlib import Path

from convoy.cluster.allocation import Allocation
from convoy.config.faults import Fault, UserError


def stage(root: Path, fast_disk: Path, allocation: Allocation) -> Path:
    """Copy `root` into `fast_disk` on every node of the job; where it lies there.

    Raises:
        UserError: it could not be copied; what cp said stands in the log.
    """
    target = fast_disk / f"convoy-{allocation.job_id}" / root.name
    copy = ["cp", "-r", "--update", "--dereference", f"{root}/.", str(target)]
    for command in (["mkdir", "-p", str(target)], copy):
        each_node = ["srun", f"--nodes={allocation.nodes}", "--ntasks-per-node=1", "--cpus-per-task=1"]
        if subprocess.run([*each_node, *command], check=False).returncode:
            rule = f"{root} can't be copied there"
            raise UserError(Fault("cluster.fast_disk", rule, "set it to null to read where it lies", str(fast_disk)))
    return target
