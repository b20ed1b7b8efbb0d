"""The allocation of this Slurm job, read from its environment, and its mismatches with the config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from convoy.cluster.request import ranks_per_node
from convoy.config.faults import Fault
from convoy.config.schema import Config


@dataclass(frozen=True)
class Allocation:
    """Resources of one Slurm job, or of one task of a job array.

    Attributes:
        job_id: Id as scontrol accepts it: 1234, or 1234_7 for an array task. SLURM_JOB_ID alone is ambiguous: the
            last task of an array has the id of the whole array.
        task: Index in the array; None outside of an array.
        nodes: Number of nodes.
        tasks_per_node: Number of ranks that srun starts per node.
        gpus_per_node: GPUs per node; None if Slurm does not report them.
        cpus_per_task: CPUs per rank; None if none were requested.
        restarts: Number of earlier starts of the job.
        node_list: Names of the nodes in Slurm's short form, such as a[01-02].
    """

    job_id: str
    task: int | None
    nodes: int
    tasks_per_node: int
    gpus_per_node: int | None
    cpus_per_task: int | None
    restarts: int
    node_list: str

    @property
    def array_id(self) -> str:
        """Job id as printed by sbatch, without a task index."""
        return self.job_id.partition("_")[0]


def read(environment: Mapping[str, str]) -> Allocation | None:
    """Return the allocation of this process, or None outside of a job."""
    job_id = environment.get("SLURM_JOB_ID")
    if job_id is None:
        return None
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    nodes = int(environment.get("SLURM_JOB_NUM_NODES", "1"))
    tasks = environment.get("SLURM_NTASKS_PER_NODE") or int(environment.get("SLURM_NTASKS", "1")) // nodes
    return Allocation(
        job_id=f"{array}_{task}" if array and task else job_id,
        task=int(task) if task else None,
        nodes=nodes,
        tasks_per_node=int(tasks),
        gpus_per_node=_number(environment.get("SLURM_GPUS_ON_NODE")),
        cpus_per_task=_number(environment.get("SLURM_CPUS_PER_TASK")),
        restarts=int(environment.get("SLURM_RESTART_COUNT", "0")),
        node_list=environment.get("SLURM_JOB_NODELIST", ""),
    )


def mismatches(allocation: Allocation, config: Config, card: str | None) -> Iterator[Fault]:
    """Yield a fault for each resource of the job that differs from the config.

    Args:
        allocation: Resources of the job.
        config: Config to run in it, with trainer.gpus as typed.
        card: Card that the script requested; None if the script is not for one card.
    """
    given, on_cpu = allocation.tasks_per_node, config.hardware.accelerator == "cpu"
    if card is not None and config.hardware.name not in (card, "auto", "cpu"):
        rule = f"this job requested {card}"
        remedy = f"submit slurm/{config.hardware.name}.sbatch, or leave hardware= out"
        yield Fault("hardware", rule, remedy, config.hardware.name)
    if allocation.gpus_per_node is not None and allocation.gpus_per_node != given:
        rule = f"this job has {given} tasks and {allocation.gpus_per_node} GPUs per node, and a rank uses one GPU"
        remedy = f"write sbatch --ntasks-per-node={allocation.gpus_per_node} …, or --gres=gpu:<type>:{given}"
        yield Fault("--gres", rule, remedy)
    wanted = ranks_per_node(config, given)
    if wanted != given:
        key = "trainer.processes" if on_cpu else "trainer.gpus"
        rule = f"this job has {given} per node"
        remedy = f"write {key}={given}"
        if wanted > 0:
            remedy += f", or sbatch --ntasks-per-node={wanted} --gres=gpu:{card or '<type>'}:{wanted} …"
        yield Fault(key, rule, remedy, str(wanted))
    if config.trainer.nodes != allocation.nodes:
        wanted_nodes = config.trainer.nodes
        rule = f"this job has {allocation.nodes} node{'' if allocation.nodes == 1 else 's'}"
        remedy = f"write trainer.nodes={allocation.nodes}, or sbatch --nodes={wanted_nodes} …"
        yield Fault("trainer.nodes", rule, remedy, str(wanted_nodes))


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
