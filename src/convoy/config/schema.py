"""The typed config of a run: every choice, its type and its unit.

A group that builds something of a library (`model`, `optimizer`, `scheduler`) is an open mapping with a
`_target_`; which keys it may have is for the target's signature to say (see `targets`). The other groups are
the dataclasses here, and OmegaConf holds each value to its field's type.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from convoy.config.cluster_schema import ClusterConfig


@dataclass
class AugmentConfig:
    """Augmentation of training images. Zero, false or null: off."""

    pad_crop: int = 0
    """Zero padding per side, in pixels; a window of the image's size is then cut at random."""
    flip: bool = False
    """Flip left to right with probability 1/2."""
    cutout: int = 0
    """Side of a square at a random place that is set to the mean, in pixels (DeVries & Taylor 2017)."""
    random_resized_crop: list[float] | None = None
    """[smallest, largest] share of the image's area in a random crop of aspect ratio 3/4 to 4/3, which is resized
    (Szegedy et al. 2014). Not for sets in memory."""


@dataclass
class DataConfig:
    """Data set: source, splits, image format, targets and augmentation."""

    name: str = MISSING
    source: str = MISSING
    """Reader of the data: digits, fashion_mnist, mnist, cifar10, cifar100 (sets in memory), image_folder, table,
    dataset or shards."""
    root: str | None = None
    """Folder of the data; for shards also s3://bucket/prefix. null: default folders of the source (see the option's
    file)."""
    file: str | None = None
    """CSV or TSV file with one row per image and a header. Tables only, like the next four."""
    image_column: str | None = None
    """Column of the image paths, relative to data.root; data.root=null: to the folder of data.file."""
    target_column: Any = None
    """Column of the target, or several as [a,b]; data.target decides how the cells are read."""
    split_column: str | None = None
    """Column with train, val or test; null: val and test are held out of all rows."""
    label_separator: str = "|"
    """Separator of the labels in one cell, for data.target=multi_hot with one column."""
    download: bool = True
    """Whether torchvision may download missing files."""
    target: str = "class_index"
    """Kind of the targets: class_index (one class per image), multi_hot (any number of labels) or values (numbers)."""
    num_classes: int | None = None
    """Number of classes, labels or values. null: counted from class folders, the table, or the index of shards."""
    channels: int = 3
    """1 (gray) or 3 (RGB). Images are converted."""
    image_size: int = MISSING
    """Side of the network's square input, in pixels."""
    fit: str = "resize"
    """Adjustment of sets in memory to image_size: resize (bilinear) or pad (zeros around the image)."""
    eval_resize: int | None = None
    """Shorter side in pixels before the center crop of val and test; null: image_size. Not for sets in memory."""
    mean: list[float] = MISSING
    """Mean of pixel values in 0..1: one number for all channels, or one per channel."""
    std: list[float] = MISSING
    """Standard deviation of pixel values in 0..1, like mean."""
    val_fraction: float = 0.1
    """Share of the training images held out for val if the data has no val split: stratified by class, with a constant
    seed, so that all runs hold out the same images."""
    test_fraction: float = 0.0
    """Share of the images held out for test, before val, if the data has no test split. For image folders, tables and
    data sets of the user."""
    on_bad_image: str = "error"
    """Reaction to an image that can't be decoded: error or skip (leave out and count). Not for sets in memory."""
    num_workers: int | None = None
    """Decoding threads per process; null: the CPU cores that the process may use. Not for sets in memory."""
    shuffle_buffer: int = 8192
    """Samples per rank from which the next one is drawn; 1: read in sequence. Shards only."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    transforms: list[Any] = field(default_factory=list)
    """Further transforms of training images, a list of `_target_`s such as torchvision.transforms.v2.ColorJitter. Each
    gets a uint8 tensor [C, S, S] after random_resized_crop and before pad_crop and normalization."""
    train: dict[str, Any] | None = None
    """Map-style data set with a `_target_`, which yields (image, target). For data.source=dataset, as val and test."""
    val: dict[str, Any] | None = None
    """null: val_fraction of train is held out."""
    test: dict[str, Any] | None = None
    """null: test_fraction of train is held out."""


@dataclass
class TrainerConfig:
    """Length, width and precision of a training. The first limit that is reached ends it."""

    gpus: Any = "auto"
    """GPUs per node: auto (all there are, else the CPU), 0 (CPU), 1, 2, …"""
    processes: int = 1
    """Data-parallel processes on the CPU, with trainer.gpus=0: what two GPUs do, on a machine without any."""
    nodes: int = 1
    max_epochs: int | None = None
    max_steps: int | None = None
    """Optimizer steps."""
    max_time: str | None = None
    """Wall time of training as HH:MM:SS or DD:HH:MM:SS; checked after each optimizer step."""
    precision: str = "auto"
    """auto, 32, bf16-mixed or 16-mixed. auto: what hardware.precision says, else bf16-mixed where the card or the CPU
    (AVX-512 BF16, AMX) computes in it, 16-mixed on another GPU, 32 on another CPU."""
    global_batch_size: int = 128
    """Samples between two optimizer steps, over all ranks and accumulation steps."""
    micro_batch_size: Any = None
    """Samples a rank in one forward pass; null: global_batch_size over the ranks, without accumulation; auto: the
    most that divides it and fits the GPU, as predicted (docs/planner.md), on the CPU like null."""
    eval_batch_size: int | None = None
    """Samples a rank in one forward pass of val and test; null: twice the micro batch."""
    clip_grad_norm: float | None = None
    """Largest 2-norm of all gradients together."""
    ema_decay: float | None = None
    """Decay a step of an exponential moving average of the weights, which val and test then use."""
    compile: bool = False
    """torch.compile the network."""
    activation_checkpointing: bool = False
    """Compute each block again in the backward pass instead of keeping it: much less memory, a third more time."""
    channels_last: bool = True
    """NHWC memory, faster for convolutions on tensor cores and with oneDNN."""
    deterministic: bool = False
    """Bit-equal results on the same machine and versions, at some cost in speed on GPUs."""
    early_stopping_epochs: int | None = None
    """Stop after this many epochs without a better task.monitor."""
    log_every_steps: int = 50
    """Optimizer steps between two rows of training metrics."""
    checkpoint_every_steps: int | None = None
    """Also save last.ckpt every so many optimizer steps, beside the end of each epoch."""
    on_nan: str = "stop"
    """A loss that is not finite: stop (naming step, learning rate, last good checkpoint) or ignore."""
    test: bool = True
    """Test with the best checkpoint at the end."""


@dataclass
class HardwareConfig:
    """The card a run is meant for, or the machine on which it runs."""

    name: str = MISSING
    architecture: str | None = None
    """Architecture for which code for the card is compiled, such as sm_80; null: asked of the device."""
    accelerator: str = "auto"
    """auto, gpu or cpu."""
    precision: str | None = None
    """Meaning of trainer.precision=auto on this card; null: asked of the device."""
    bf16: bool | None = None
    """Whether the card computes in bfloat16; null: asked of the device."""
    gpus_per_node: int | None = None
    """GPUs of one node, the most that trainer.gpus may ask for; null: asked of the machine."""
    usable_bytes: int | None = None
    """Memory of the card that programs may use, as its driver counts it, in bytes; null: not known."""
    context_bytes: int | None = None
    """Memory that a process takes before its first tensor (CUDA context and libraries), in bytes."""
    expandable_segments: bool = False
    """Whether PyTorch's allocator may grow segments, which wastes less; PYTORCH_ALLOC_CONF, where set, wins."""
    cpu_threads: int | None = None
    """Threads of one process's CPU operations; null: the cores it may use, shared among the processes."""


@dataclass
class WandbConfig:
    """Weights & Biases. Convoy never prompts: with a key it is online, without one it writes into the run's folder."""

    project: str = "convoy"
    entity: str | None = None
    mode: str = "auto"
    """auto (online with a key, else offline), online or offline."""
    group: str | None = None
    notes: str | None = None


@dataclass
class TensorBoardConfig:
    """Event files under the run's folder: `tensorboard --logdir outputs`."""

    folder: str = "tensorboard"


@dataclass
class CsvConfig:
    """metrics.csv alone, which every run writes whatever else it logs to."""

    file: str = "metrics.csv"


@dataclass
class LoggerConfig:
    """Loggers of a run besides its folder; several are given as logger=[wandb,tensorboard]."""

    wandb: WandbConfig | None = None
    tensorboard: TensorBoardConfig | None = None
    csv: CsvConfig | None = None
    other: dict[str, Any] = field(default_factory=dict)
    """Further Lightning loggers by name, each with a `_target_` (conf/logger/mlflow.yaml). "{run_folder}" in a value is
    the run's folder."""


@dataclass
class LedgerConfig:
    """Measurements per layer, beside the ledger that every run writes (docs/ledger.md)."""

    measure_steps: int = 20
    """Forward and backward passes at a run's start over which each layer's times are measured, 20 or more; their
    steps do not count in images_per_s. 0: off. Left out of a run of fewer than five times as many, and with
    trainer.compile."""
    norms_every_steps: int = 0
    """Optimizer steps between two rows of each layer's weight and gradient norms; 0: off."""


@dataclass
class CheckpointConfig:
    """Checkpoints that are kept, beside last.ckpt and best.ckpt."""

    save_top_k: int = 1
    """Number of best checkpoints that are kept. Above 1: as step-<n>.ckpt, the best of them also as best.ckpt."""
    every_epochs: int = 1
    """Epochs between two writes of last.ckpt; best.ckpt is written whenever task.monitor improves."""


@dataclass
class PlanConfig:
    """Use of the predicted GPU memory of a run (docs/planner.md)."""

    margin: float = 0.05
    """Share of the card's usable memory that trainer.micro_batch_size=auto leaves free."""
    force: bool = False
    """Queue a run that is predicted not to fit."""


@dataclass
class Config:
    """A whole run."""

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
    cluster: ClusterConfig | None = None
    """Scheduler that runs the job, for `convoy submit`; a run doesn't read it."""
    name: str = MISSING
    """Folder under outputs/ and name in the loggers: the experiment's or the model's."""
    seed: int = 1
    tags: list[str] = field(default_factory=list)
    output_root: str = "outputs"
    folder: str | None = None
    """This run's own folder; null: <output_root>/<name>/<date_time-id>."""
    resume: str | None = None
    """latest, a run's folder or a checkpoint: resume that run."""


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
)
LIST_GROUPS = ("logger", "metric", "callback")
"""Groups of which several options can be chosen: logger=[wandb,tensorboard]."""
OPTIONAL_GROUPS = ("metric", "callback", "cluster", "experiment")
"""Groups without a default option."""
