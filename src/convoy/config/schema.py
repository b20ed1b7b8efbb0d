"""Typed config of a run: all keys with their types and units.

Groups with a `_target_`, such as `model`, `optimizer` and `scheduler`, are open mappings; the signature of the target
determines their keys (see `targets`). The other groups are the dataclasses of this module, and OmegaConf checks each
value against the type of its field.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from convoy.config.cluster_schema import ClusterConfig
from convoy.config.data_schema import DataConfig


@dataclass
class TrainerConfig:
    """Length, parallelism and precision of training. Training ends at the first limit that is reached."""

    gpus: Any = "auto"
    """GPUs per node: auto (all GPUs, or the CPU if there are none), 0 (CPU), 1, 2, …"""
    processes: int = 1
    """Data-parallel processes on the CPU with trainer.gpus=0, to test data-parallel training without GPUs."""
    nodes: int = 1
    max_epochs: int | None = None
    max_steps: int | None = None
    """Optimizer steps."""
    max_time: str | None = None
    """Wall time of training as HH:MM:SS or DD:HH:MM:SS; checked after each optimizer step."""
    precision: str = "auto"
    """auto, 32, bf16-mixed or 16-mixed. auto: hardware.precision; if it is null, bf16-mixed if the card or the CPU
    (AVX-512 BF16, AMX) supports it, else 16-mixed on a GPU and 32 on a CPU."""
    tf32: bool = True
    """Whether GPUs from Ampere on compute matrix products and convolutions that are in float32 in TF32, with 10 bits
    of mantissa instead of 23. false: true float32, several times slower there."""
    global_batch_size: int = 128
    """Samples per optimizer step, over all ranks and accumulation steps."""
    micro_batch_size: Any = None
    """Samples per rank in one forward pass. null: global_batch_size divided by the number of ranks, without
    accumulation. auto: the largest divisor that is predicted to fit the GPU (docs/planner.md); like null on a CPU."""
    eval_batch_size: int | None = None
    """Samples per rank in one forward pass of val and test; null: twice the micro batch."""
    clip_grad_norm: float | None = None
    """Maximum of the total 2-norm of all gradients."""
    sam_radius: float | None = None
    """Sharpness-aware minimization: distance of the weights at which gradients are computed, such as 0.05; a step has a
    second forward and backward pass."""
    ema_decay: float | None = None
    """Decay per step of an exponential moving average of the weights, which is used for val and test. It begins
    lower: (1 + t) / (10 + t) in step t."""
    swa_start_epoch: int | None = None
    """Stochastic weight averaging: epochs after which val and test use the mean of the weights at the end of epochs."""
    sync_batchnorm: bool = False
    """Compute the statistics of batch norm over all ranks instead of over each rank's micro batch
    (torch.nn.SyncBatchNorm; GPUs only). No effect on one GPU."""
    compile: Any = False
    """Compilation of the network by torch.compile: false, true, one of its modes (reduce-overhead, max-autotune,
    max-autotune-no-cudagraphs), or auto (train without it first, then compile if that is likely to shorten the run)."""
    activation_checkpointing: bool = False
    """Recompute each block in the backward pass instead of storing its activations: much less memory, a third more
    time."""
    channels_last: bool = True
    """NHWC memory format, faster for convolutions on tensor cores and with oneDNN."""
    deterministic: bool = False
    """Bit-identical results on the same machine and versions, slower on GPUs."""
    early_stopping_epochs: int | None = None
    """Stop after this number of epochs without an improvement of task.monitor."""
    log_every_steps: int = 50
    """Optimizer steps between two rows of training metrics."""
    checkpoint_every_steps: int | None = None
    """Optimizer steps between two writes of last.ckpt, in addition to the end of each epoch."""
    on_nan: str = "stop"
    """Reaction to a loss that is not finite: stop (with step, learning rate and last good checkpoint) or ignore."""
    test: bool = True
    """Test with the best checkpoint at the end."""


@dataclass
class HardwareConfig:
    """GPU or CPU of the run."""

    name: str = MISSING
    architecture: str | None = None
    """Architecture of the card's compiled code, such as sm_80; null: queried from the device."""
    accelerator: str = "auto"
    """auto, gpu or cpu."""
    precision: str | None = None
    """Meaning of trainer.precision=auto on this card; null: depends on the device."""
    bf16: bool | None = None
    """Whether the card supports bfloat16; null: queried from the device."""
    gpus_per_node: int | None = None
    """GPUs per node, the maximum of trainer.gpus; null: counted on the machine."""
    usable_bytes: int | None = None
    """Memory of the card available to programs in bytes, as reported by its driver; null: not known."""
    context_bytes: int | None = None
    """Memory of a process before its first tensor (CUDA context and libraries), in bytes."""
    expandable_segments: bool = False
    """Whether PyTorch's allocator may expand segments, which reduces fragmentation; PYTORCH_ALLOC_CONF takes
    precedence."""
    cpu_threads: int | None = None
    """Threads per process for CPU operations; null: the available cores divided by the number of processes."""


@dataclass
class WandbConfig:
    """Weights & Biases. There is no prompt: without an API key, records are stored offline in the run's folder."""

    project: str = "convoy"
    entity: str | None = None
    mode: str = "auto"
    """auto (online with a key, else offline), online or offline."""
    group: str | None = None
    notes: str | None = None


@dataclass
class TensorBoardConfig:
    """Event files in the run's folder; view them with `tensorboard --logdir outputs`."""

    folder: str = "tensorboard"


@dataclass
class CsvConfig:
    """Only metrics.csv, which every run writes."""

    file: str = "metrics.csv"


@dataclass
class LoggerConfig:
    """Loggers of a run besides its folder; several are given as logger=[wandb,tensorboard]."""

    wandb: WandbConfig | None = None
    tensorboard: TensorBoardConfig | None = None
    csv: CsvConfig | None = None
    other: dict[str, Any] = field(default_factory=dict)
    """Additional Lightning loggers by name, each with a `_target_` (conf/logger/mlflow.yaml). "{run_folder}" in a value
    is replaced by the run's folder."""


@dataclass
class LedgerConfig:
    """Measurements per layer, in addition to the ledger that every run writes (docs/ledger.md)."""

    measure_steps: int = 20
    """Forward and backward passes at the start of a run in which the layers are timed, at least 20; 0: off. Their
    steps do not count in images_per_s. Runs of fewer than five times as many passes, and runs with trainer.compile,
    are not timed."""
    norms_every_steps: int = 0
    """Optimizer steps between two rows of weight and gradient norms per layer; 0: off."""


@dataclass
class DebugConfig:
    """Checks of a training, which `debug=fast`, `overfit`, `profile` and `anomaly` switch on (docs/training.md)."""

    eval_batches: int | None = None
    """Batches of val and of test; null: all."""
    overfit_below: float | None = None
    """Train and validate on the first batch alone until its loss is below this value; the run fails otherwise."""
    profile_steps: int = 0
    """Optimizer steps whose parts are timed, after 5 others; 5 further ones are traced by torch's profiler. 0: off."""
    detect_anomaly: bool = False
    """Stop at the first operation whose backward pass returns NaN, with its forward call; several times slower."""

    @property
    def is_on(self) -> bool:
        """Whether any check is on."""
        return self != DebugConfig()


@dataclass
class CheckpointConfig:
    """Checkpoints that are kept in addition to last.ckpt and best.ckpt."""

    save_top_k: int = 1
    """Number of best checkpoints that are kept. Above 1, they are stored as step-<n>.ckpt, the best also as
    best.ckpt."""
    every_epochs: int = 1
    """Epochs between two writes of last.ckpt; best.ckpt is written whenever task.monitor improves."""


@dataclass
class PlanConfig:
    """Use of the predicted GPU memory of a run (docs/planner.md)."""

    margin: float = 0.05
    """Share of the card's usable memory that trainer.micro_batch_size=auto leaves free."""
    force: bool = False
    """Queue a run even if it is predicted not to fit."""


@dataclass
class Config:
    """Config of a run."""

    model: dict[str, Any] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    metric: dict[str, Any] = field(default_factory=dict)
    """Additional torchmetrics metrics by name, logged as val/<name> and test/<name>."""
    callback: dict[str, Any] = field(default_factory=dict)
    """Additional Lightning callbacks by name."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    scheduler: dict[str, Any] = field(default_factory=dict)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    ledger: LedgerConfig = field(default_factory=LedgerConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    debug: DebugConfig = field(default_factory=DebugConfig)
    cluster: ClusterConfig | None = None
    """Scheduler that runs the job, for `convoy submit`; a run doesn't read it."""
    name: str = MISSING
    """Folder below output_root and name in the loggers; default: name of the experiment or the model."""
    seed: int = 1
    tags: list[str] = field(default_factory=list)
    output_root: str = "outputs"
    report: bool = True
    """Write report.html, the page of the run, at its end (see convoy report)."""
    folder: str | None = None
    """Folder of the run; null: <output_root>/<name>/<date_time-id>."""
    resume: str | None = None
    """Run to resume: latest, a run's folder or a checkpoint."""


OPEN_GROUPS = ("model", "optimizer", "scheduler", "task", "loss", "metric", "callback")
GROUPS = (
    "model",
    "data",
    "task",
    "loss",
    "metric",
    "callback",
    "optimizer",
    "scheduler",
    "trainer",
    "hardware",
    "logger",
    "cluster",
    "experiment",
    "debug",
)
LIST_GROUPS = ("logger", "metric", "callback")
"""Groups that accept several options: logger=[wandb,tensorboard]."""
OPTIONAL_GROUPS = ("metric", "callback", "cluster", "experiment", "debug")
"""Groups without a default option."""
