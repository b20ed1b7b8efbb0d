"""What a job asks of Slurm: the one source of the #SBATCH lines and of what the job holds its allocation against."""

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
        card: name of the card, an option of conf/hardware/.
        gres: Slurm's type of it.
        nodes: number of nodes.
        tasks_per_node: ranks of a node, one a GPU.
        cpus_per_task: CPUs of a rank.
        memory_gib: main memory of a node.
        time: wall time as Slurm writes it.
        signal_s: seconds before the end at which the ranks get USR1.
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
        """Of all nodes."""
        return self.nodes * self.tasks_per_node

    @property
    def seconds(self) -> int:
        """The wall time; 0 where it can't be read."""
        return seconds_of(self.time) or 0


def request_of(config: Config) -> Request:
    """The request of a run. Without a number of GPUs it is all that a node has.

    Raises:
        UserError: no cluster is named, or it has no such card.
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
    """Ranks of a node: one a GPU, or processes where the CPU stands in for the cards."""
    if config.hardware.accelerator == "cpu":
        return config.trainer.processes
    return gpus_per_node if config.trainer.gpus == "auto" else int(config.trainer.gpus)


def the_cluster(config: Config) -> ClusterConfig:
    """The cluster that the config names.

    Raises:
        UserError: it names none.
    """
    if config.cluster is None:
        raise UserError(Fault("cluster", "must be set", "write cluster=carc, or add conf/cluster/<yours>.yaml"))
    return config.cluster


def card_of(config: Config, cluster: ClusterConfig) -> CardConfig:
    """The nodes with the card that the config is meant for.

    Raises:
        UserError: the cluster has none.
    """
    name = config.hardware.name
    if name not in cluster.cards:
        listed = f"one of {', '.join(cluster.cards)}"
        near = did_you_mean(name, cluster.cards)
        remedy = f"{near} ({listed})" if near else f"write hardware=…, {listed}"
        raise UserError(Fault("hardware", f"cluster={cluster.name} has no such card", remedy, name))
    return cluster.cards[name]


def job_keys() -> tuple[str, ...]:
    """The keys of cluster.job, each of which `convoy submit` takes by itself."""
    return tuple(SlurmJobConfig.__dataclass_fields__)
