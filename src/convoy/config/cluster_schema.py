"""The typed config of a cluster that Slurm runs, and of what a job asks of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING


@dataclass
class SlurmJobConfig:
    """What a job asks for besides its GPUs. `convoy submit` takes each key by itself: time=4:00:00."""

    account: str | None = None
    """Who pays, as Slurm names it; null: SBATCH_ACCOUNT, else your default account."""
    time: str = "1:00:00"
    """Wall time, as Slurm writes it: HH:MM:SS or D-HH:MM:SS. The job goes on in another after it."""
    partition: str | None = None
    """null: the first of the card's partitions."""
    constraint: str | None = None
    """A feature that the nodes must have; null: the card's."""
    qos: str | None = None
    mail: str | None = None
    """Address that Slurm writes to when the job ends, fails or is requeued."""
    cpus_per_gpu: int = 8
    """CPUs of each rank."""
    memory_per_gpu_gib: int = 32
    """Main memory for each rank, in GiB (Slurm's G)."""
    signal_s: int = 120
    """Seconds before the time limit at which the ranks are told to save and leave."""
    max_restarts: int = 20
    """How often a job may requeue itself."""
    hang_s: int = 1800
    """Seconds without a step after which the ranks are taken for hung: stacks are printed and the job requeued."""


@dataclass
class PartitionConfig:
    """A partition and a user's limits in it; null: not known, or none."""

    max_time: str = MISSING
    """The longest wall time of a job, as Slurm writes it: D-HH:MM:SS."""
    max_gpus: int | None = None
    """GPUs of all running jobs of a user together."""
    max_running: int | None = None
    """Running jobs of a user."""
    max_queued: int | None = None
    """Waiting jobs of a user; each task of an array is one."""


@dataclass
class CardConfig:
    """The nodes that have one kind of card. Its name is that of an option in conf/hardware/."""

    gres: str = MISSING
    """Slurm's type of the card, as in --gres=gpu:<type>:2."""
    partitions: list[str] = MISSING
    """Where there are such nodes; a job goes to the first unless it names another."""
    constraint: str | None = None
    """A feature that tells these nodes from others with the same gres."""
    gpus_per_node: int = MISSING
    cpus_per_node: int | None = None
    memory_per_node_gib: int | None = None
    billing_per_gpu: float | None = None
    """Billing units a GPU and minute; null: not known, and then no cost is shown."""


@dataclass
class ClusterConfig:
    """A cluster: what it has, what it allows, what it charges, and what a job does first on a node."""

    name: str = MISSING
    cards: dict[str, CardConfig] = MISSING
    partitions: dict[str, PartitionConfig] = MISSING
    job: SlurmJobConfig = field(default_factory=SlurmJobConfig)
    account_required: bool = False
    """Whether a job without an account is refused."""
    billing_per_cpu: float | None = None
    """Billing units a CPU and minute; null: not known."""
    billing_per_gib: float | None = None
    """Billing units a GiB of memory and minute; null: not known."""
    max_array_size: int | None = None
    """Tasks of one job array; null: not known."""
    setup: list[str] = field(default_factory=list)
    """Lines of bash before anything else on the node: modules, environments."""
    python: str | None = None
    """Of the environment with Convoy; a relative path is taken from where sbatch is called; null: for
    `convoy submit` the Python that runs it, for the scripts of slurm/ what `make install` made: .venv-<card>
    where it is there, else .venv."""
    network: bool = True
    """Whether compute nodes reach the internet; without, W&B records are kept in the run's folder."""
    fast_disk: str | None = None
    """Folder on the node to which data.root is copied first, such as $TMPDIR; null: data is read where it lies."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables of all ranks, such as NCCL's."""
