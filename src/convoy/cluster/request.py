"""Resource request of a Slurm job: the single source of the #SBATCH lines and of the checks of an allocation."""

from __future__ import annotations

from dataclasses import dataclass

from convoy.cluster.times import seconds_of
from convoy.config.cluster_schema import CardConfig, ClusterConfig, SlurmJobConfig
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.schema import Config


@dataclass(frozen=True)
class Request:
    """The resources of one job.

    Attributes:
        card: Name of the card, an option of conf/hardware/.
        gres: Slurm's name for the card's type.
        nodes: Number of nodes.
        tasks_per_node: Ranks per node, one per GPU.
        cpus_per_task: CPUs per rank.
        memory_gib: Main memory per node, in GiB.
        time: Wall time in Slurm's format.
        partition: Partition that the job is submitted to.
        signal_s: Seconds before the time limit at which the ranks receive SIGUSR1.
        constraint: Feature that the nodes must have.
        account: Account that is charged.
        qos: Quality of service.
        mail: Address for Slurm's notifications.
    """

    card: str
    gres: str
    nodes: int
    tasks_per_node: int
    cpus_per_task: int
    memory_gib: int
    time: str
    partition: str
    signal_s: int
    constraint: str | None = None
    account: str | None = None
    qos: str | None = None
    mail: str | None = None

    @property
    def gpus(self) -> int:
        """Number of GPUs on all nodes together."""
        return self.nodes * self.tasks_per_node

    @property
    def seconds(self) -> int:
        """Wall time in seconds; 0 if it can't be parsed."""
        return seconds_of(self.time) or 0


def request_of(config: Config) -> Request:
    """Return the request of a run; with trainer.gpus=auto it requests all GPUs of each node.

    Raises:
        UserError: If the config names no cluster, or the cluster has no such card.
    """
    cluster = the_cluster(config)
    card = card_of(config, cluster)
    job = cluster.job
    tasks = ranks_per_node(config, card.gpus_per_node)
    return Request(
        card=config.hardware.name,
        gres=card.gres,
        nodes=config.trainer.nodes,
        tasks_per_node=tasks,
        cpus_per_task=job.cpus_per_gpu,
        memory_gib=job.memory_per_gpu_gib * tasks,
        time=job.time,
        partition=job.partition or card.partitions[0],
        signal_s=job.signal_s,
        constraint=job.constraint or card.constraint,
        account=job.account,
        qos=job.qos,
        mail=job.mail,
    )


def ranks_per_node(config: Config, gpus_per_node: int) -> int:
    """Return the ranks per node: one per GPU, or trainer.processes on the CPU."""
    if config.hardware.accelerator == "cpu":
        return config.trainer.processes
    return gpus_per_node if config.trainer.gpus == "auto" else int(config.trainer.gpus)


def the_cluster(config: Config) -> ClusterConfig:
    """Return the cluster of a config.

    Raises:
        UserError: If the config names no cluster.
    """
    if config.cluster is None:
        raise UserError(Fault("cluster", "must be set", "write cluster=carc, or add conf/cluster/<yours>.yaml"))
    return config.cluster


def card_of(config: Config, cluster: ClusterConfig) -> CardConfig:
    """Return the cluster's nodes that have the card of the config.

    Raises:
        UserError: If the cluster has no such card.
    """
    name = config.hardware.name
    if name not in cluster.cards:
        listed = f"one of {', '.join(cluster.cards)}"
        near = did_you_mean(name, cluster.cards)
        remedy = f"{near} ({listed})" if near else f"write hardware=…, {listed}"
        raise UserError(Fault("hardware", f"cluster={cluster.name} has no such card", remedy, name))
    return cluster.cards[name]


def job_keys() -> tuple[str, ...]:
    """Return the keys of cluster.job, which `convoy submit` accepts without the prefix."""
    return tuple(SlurmJobConfig.__dataclass_fields__)
