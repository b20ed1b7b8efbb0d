"""What a job costs, in the cluster's billing units."""

from __future__ import annotations

from dataclasses import dataclass

from convoy.cluster.request import Request
from convoy.config.cluster_schema import ClusterConfig


@dataclass(frozen=True)
class Cost:
    """Billing units of a job.

    Attributes:
        per_hour: while it runs.
        in_all: for the whole wall time; Slurm charges for what has been used.
    """

    per_hour: float
    in_all: float


def cost_of(request: Request, cluster: ClusterConfig, num_jobs: int = 1) -> Cost | None:
    """The sum of the weights of CPUs, memory and GPUs; None where the cluster's file doesn't know one of them.

    Slurm: TRESBillingWeights of a partition, summed over the resources (unless PriorityFlags has MAX_TRES).
    """
    per_gpu = cluster.cards[request.card].billing_per_gpu
    if per_gpu is None or cluster.billing_per_cpu is None or cluster.billing_per_gib is None:
        return None
    a_node = request.tasks_per_node * (per_gpu + request.cpus_per_task * cluster.billing_per_cpu)
    a_node += request.memory_gib * cluster.billing_per_gib
    per_hour = 60 * request.nodes * a_node
    return Cost(per_hour, per_hour * request.seconds / 3600 * num_jobs)


def cost_text(request: Request, cost: Cost | None, num_jobs: int = 1) -> str:
    """One line for people."""
    if cost is None:
        return "cost    not known for this card: sacctmgr and sreport have it after the first job"
    of = f" {num_jobs} jobs" if num_jobs > 1 else ""
    each = " each" if num_jobs > 1 else ""
    return (
        f"cost    {cost.per_hour:,.0f} billing units an hour{each}, at most {cost.in_all:,.0f} for{of} {request.time}"
    )
