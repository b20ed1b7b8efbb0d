"""Cost of a job in the cluster's billing units."""

from __future__ import annotations

from dataclasses import dataclass

from convoy.cluster.request import Request
from convoy.config.cluster_schema import ClusterConfig


@dataclass(frozen=True)
class Cost:
    """Cost of a job in billing units.

    Attributes:
        per_hour: Billing units per hour of run time.
        maximum: Billing units for the whole requested wall time. Slurm charges the time that was used.
    """

    per_hour: float
    maximum: float


def cost_of(request: Request, cluster: ClusterConfig, num_jobs: int = 1) -> Cost | None:
    """Return the cost of `num_jobs` equal jobs, or None if the cluster's file lacks one of the weights.

    Follows Slurm's TRESBillingWeights: the weighted sum of CPUs, memory and GPUs (without PriorityFlags=MAX_TRES).
    """
    per_gpu = cluster.cards[request.card].billing_per_gpu
    if per_gpu is None or cluster.billing_per_cpu is None or cluster.billing_per_gib is None:
        return None
    per_node_minute = request.tasks_per_node * (per_gpu + request.cpus_per_task * cluster.billing_per_cpu)
    per_node_minute += request.memory_gib * cluster.billing_per_gib
    per_hour = 60 * request.nodes * per_node_minute
    return Cost(per_hour, per_hour * request.seconds / 3600 * num_jobs)


def cost_text(request: Request, cost: Cost | None, num_jobs: int = 1) -> str:
    """Return the cost as one line for the terminal."""
    if cost is None:
        return "cost    unknown for this card; sreport shows it after the first job"
    jobs = f"{num_jobs} jobs of " if num_jobs > 1 else ""
    each = " each" if num_jobs > 1 else ""
    rate = f"{cost.per_hour:,.0f} billing units per hour{each}"
    return f"cost    {rate}, at most {cost.maximum:,.0f} for {jobs}{request.time}"
