"""Typed config of a Slurm cluster and of the resources of a job."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING


@dataclass
class SlurmJobConfig:
    """Resources of a job besides its GPUs. `convoy submit` accepts each key without a prefix, such as time=4:00:00."""

    account: str | None = None
    """Slurm account that is charged; null: SBATCH_ACCOUNT, else your default account."""
    time: str = "1:00:00"
    """Wall time as HH:MM:SS or D-HH:MM:SS, after which the job is requeued and resumes."""
    partition: str | None = None
    """Partition; null: the first of the card's partitions."""
    constraint: str | None = None
    """Feature that the nodes must have; null: that of the card."""
    qos: str | None = None
    """Quality of service; null: Slurm's default."""
    mail: str | None = None
    """Mail address that Slurm notifies when the job ends, fails or is requeued."""
    cpus_per_gpu: int = 8
    """CPUs per rank."""
    memory_per_gpu_gib: int = 32
    """Main memory per rank in GiB (Slurm's G)."""
    signal_s: int = 120
    """Seconds before the time limit at which the ranks save and exit."""
    max_restarts: int = 20
    """Largest number of times that a job requeues itself."""
    hang_s: int = 1800
    """Seconds without a step after which a rank is considered hung; it prints its stacks and the job is requeued."""


@dataclass
class PartitionConfig:
    """Partition with its limits per user; null: unknown or unlimited."""

    max_time: str = MISSING
    """Longest wall time of a job as D-HH:MM:SS."""
    max_gpus: int | None = None
    """Total GPUs of a user's running jobs."""
    max_running: int | None = None
    """Running jobs per user."""
    max_queued: int | None = None
    """Waiting jobs per user; each task of an array counts."""


@dataclass
class CardConfig:
    """Nodes with one kind of card, which is named like an option in conf/hardware/."""

    gres: str = MISSING
    """Slurm's name for the card's type, as in --gres=gpu:<type>:2."""
    partitions: list[str] = MISSING
    """Partitions that have such nodes; the first is the default."""
    constraint: str | None = None
    """Feature that distinguishes these nodes from others with the same gres."""
    gpus_per_node: int = MISSING
    cpus_per_node: int | None = None
    memory_per_node_gib: int | None = None
    billing_per_gpu: float | None = None
    """Billing units per GPU and minute; null: unknown, so that no cost is shown."""


@dataclass
class ClusterConfig:
    """Slurm cluster: its cards, partitions, prices, and the setup of a job on a node."""

    name: str = MISSING
    cards: dict[str, CardConfig] = MISSING
    partitions: dict[str, PartitionConfig] = MISSING
    job: SlurmJobConfig = field(default_factory=SlurmJobConfig)
    account_required: bool = False
    """Refuse a job without an account."""
    billing_per_cpu: float | None = None
    """Billing units per CPU and minute; null: unknown."""
    billing_per_gib: float | None = None
    """Billing units per GiB of memory and minute; null: unknown."""
    max_array_size: int | None = None
    """Largest number of tasks of a job array; null: unknown."""
    setup: list[str] = field(default_factory=list)
    """Lines of bash that run first on the node, such as module loads."""
    python: str | None = None
    """Python of the environment with Convoy, absolute or relative to where sbatch is called. null: `convoy submit` uses
    the Python that runs it; the scripts of slurm/ use .venv-<card> if it exists, else .venv."""
    network: bool = True
    """Compute nodes have internet access; if false, W&B records stay in the run folders."""
    fast_disk: str | None = None
    """Folder on the node's disk, such as $TMPDIR, to which data.root is copied first; null: no copy."""
    environment: dict[str, str] = field(default_factory=dict)
    """Environment variables of all ranks, such as NCCL's."""
