"""Copy of a data folder on each node's local disk, made before the ranks start."""

from __future__ import annotations

import subprocess
from pathlib import Path

from convoy.cluster.allocation import Allocation
from convoy.config.faults import Fault, UserError


def copy_to_nodes(root: Path, fast_disk: Path, allocation: Allocation) -> Path:
    """Copy `root` into `fast_disk` on every node of the job and return the path of the copy.

    Args:
        root: Data folder that all nodes can read.
        fast_disk: Existing folder on each node's disk.
        allocation: Allocation of this job.

    Raises:
        UserError: If the folder could not be copied; the job's log has the message of cp.
    """
    target = fast_disk / f"convoy-{allocation.job_id}" / root.name
    copy = ["cp", "-r", "--update", "--dereference", f"{root}/.", str(target)]
    for command in (["mkdir", "-p", str(target)], copy):
        each_node = ["srun", f"--nodes={allocation.nodes}", "--ntasks-per-node=1", "--cpus-per-task=1"]
        if subprocess.run([*each_node, *command], check=False).returncode:
            rule = f"{root} can't be copied there"
            remedy = "set it to null to read the data from data.root"
            raise UserError(Fault("cluster.fast_disk", rule, remedy, str(fast_disk)))
    return target
