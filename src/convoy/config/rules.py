"""Rules within and across groups, checked after the composition and before anything is built.

Each rule is a pure function of the config. Rules that depend on the machine (number of GPUs) or the disk (existence of
the data folder) are in the packages of these subjects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePath
from typing import Any

from convoy.config.argument_ranges import range_faults
from convoy.config.batch import divide
from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.schema import Config
from convoy.config.targets import target_faults

PRECISIONS = ("auto", "32", "bf16-mixed", "16-mixed")

COMPILE_AUTO = "auto"
COMPILE_MODES = ("reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
"""Modes of torch.compile other than its default (docs.pytorch.org, torch.compile)."""

_CHOICES: dict[str, tuple[str, ...]] = {
    "trainer.precision": PRECISIONS,
    "trainer.on_nan": ("stop", "ignore"),
    "hardware.accelerator": ("auto", "gpu", "cpu"),
    "hardware.precision": PRECISIONS[1:],
    "logger.wandb.mode": ("auto", "online", "offline"),
    "scheduler.interval": ("step", "epoch"),
}

_AT_LEAST: dict[str, float] = {
    "trainer.processes": 1,
    "trainer.nodes": 1,
    "trainer.max_epochs": 1,
    "trainer.max_steps": 1,
    "trainer.global_batch_size": 1,
    "trainer.micro_batch_size": 1,
    "trainer.eval_batch_size": 1,
    "task.mixup": 0,
    "task.cutmix": 0,
    "task.mix_epochs": 0,
    "task.mix_probability": 0,
    "checkpoint.save_top_k": 1,
    "checkpoint.every_epochs": 1,
    "trainer.early_stopping_epochs": 1,
    "trainer.swa_start_epoch": 0,
    "trainer.log_every_steps": 1,
    "trainer.checkpoint_every_steps": 1,
    "ledger.norms_every_steps": 0,
    "hardware.gpus_per_node": 0,
    "hardware.cpu_threads": 1,
    "hardware.usable_bytes": 1,
    "hardware.context_bytes": 0,
    "debug.eval_batches": 1,
    "debug.profile_steps": 0,
    "optimizer.weight_decay": 0,
    "scheduler.warmup_epochs": 0,
    "scheduler.warmup_steps": 0,
    "seed": 0,
}

FEWEST_MEASURED_STEPS = 20
"""Smallest number of passes for a meaningful median."""

_AT_MOST: dict[str, float] = {
    "task.mix_probability": 1,
    "hardware.cpu_threads": 4096,
    "data.num_workers": 4096,
    "trainer.processes": 1024,
    "scheduler.warmup_epochs": 1e6,
    "optimizer.layer_decay": 1,
}

_ABOVE_ZERO = (
    "optimizer.lr",
    "optimizer.layer_decay",
    "trainer.clip_grad_norm",
    "trainer.sam_radius",
    "debug.overfit_below",
)

_BELOW_ONE = ("trainer.ema_decay", "plan.margin")

_SEED_LIMIT = 2**32


def check(config: Config) -> list[Fault]:
    """Return all faults of the config, in the order of the rules."""
    return [fault for rule in _RULES for fault in rule(config)]


def max_time_seconds(text: str) -> int:
    """Return the seconds of HH:MM:SS or DD:HH:MM:SS.

    Raises:
        UserError: if the text has another format, or is zero.
    """
    match = re.fullmatch(r"(?:(\d+):)?(\d+):([0-5]?\d):([0-5]?\d)", text)
    seconds = 0
    if match:
        days, hours, minutes, rest = (int(part or 0) for part in match.groups())
        seconds = ((days * 24 + hours) * 60 + minutes) * 60 + rest
    if not seconds:
        remedy = "write HH:MM:SS or DD:HH:MM:SS, such as 00:30:00 for half an hour"
        raise UserError(Fault("trainer.max_time", "is not a time", remedy, text))
    return seconds


def _select(config: Config, key: str) -> Any:
    """Return the value at a dotted key, or None if a part of the key is null or absent."""
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else getattr(node, part, None)
        if node is None:
            return None
    return node


def _choices(config: Config) -> Iterable[Fault]:
    for key, allowed in _CHOICES.items():
        value = _select(config, key)
        if value is not None and value not in allowed:
            listed = f"one of {', '.join(allowed)}"
            near = did_you_mean(str(value), allowed)
            yield Fault(key, "no such choice", f"{near} ({listed})" if near else listed, str(value))


def _ranges(config: Config) -> Iterable[Fault]:
    for key, least in _AT_LEAST.items():
        value = _select(config, key)
        if isinstance(value, (int, float)) and value < least:
            yield Fault(key, f"must be at least {least:g}", "", str(value))
    for key, most in _AT_MOST.items():
        value = _select(config, key)
        if isinstance(value, (int, float)) and value > most:
            yield Fault(key, f"must be at most {most:g}", "", str(value))
    for key in _ABOVE_ZERO:
        value = _select(config, key)
        if isinstance(value, (int, float)) and value <= 0:
            yield Fault(key, "must be above 0", "", str(value))
    for key in _BELOW_ONE:
        value = _select(config, key)
        if isinstance(value, (int, float)) and not 0 <= value < 1:
            yield Fault(key, "must be at least 0 and below 1", "", str(value))
    if config.seed >= _SEED_LIMIT:
        yield Fault("seed", f"must be below {_SEED_LIMIT}", "", str(config.seed))


def _name(config: Config) -> Iterable[Fault]:
    if not re.fullmatch(r"[\w][\w.+@-]*", str(config.name)):
        rule = "must be a folder name of letters, digits and . _ - + @, beginning with a letter or digit"
        yield Fault("name", rule, "write name=…", str(config.name))
    if config.name == "latest":
        yield Fault("name", "is the newest run in run=latest and resume=latest", "choose another name", config.name)
    # Parts of the names of files with results.
    for key, name in (("data.name", config.data.name), ("hardware.name", config.hardware.name)):
        if not name.isprintable() or "/" in name or "\\" in name:
            yield Fault(key, "must have no / or control characters", f"write {key}=…", name)


def _devices(config: Config) -> Iterable[Fault]:
    trainer, hardware = config.trainer, config.hardware
    gpus = trainer.gpus
    if not (gpus == "auto" or (isinstance(gpus, int) and not isinstance(gpus, bool) and gpus >= 0)):
        yield Fault("trainer.gpus", "must be auto or a whole number from 0", "", str(gpus))
        return
    if trainer.processes > 1 and gpus != 0 and hardware.accelerator != "cpu":
        rule = "applies only to training on the CPU"
        yield Fault("trainer.processes", rule, "add trainer.gpus=0", str(trainer.processes))
    if isinstance(gpus, int) and hardware.gpus_per_node is not None and gpus > hardware.gpus_per_node:
        rule = f"hardware={hardware.name} has {hardware.gpus_per_node} GPUs per node"
        remedy = f"write trainer.gpus={hardware.gpus_per_node}"
        if hardware.gpus_per_node > 0:
            remedy += f" trainer.nodes={-(-gpus // hardware.gpus_per_node)}"
        yield Fault("trainer.gpus", rule, remedy, str(gpus))
    if trainer.precision == "bf16-mixed" and hardware.bf16 is False:
        rule = f"hardware={hardware.name} has no bfloat16"
        remedy = f"write trainer.precision={hardware.precision or '32'}, or auto"
        yield Fault("trainer.precision", rule, remedy, trainer.precision)
    if trainer.precision == "16-mixed" and (gpus == 0 or hardware.accelerator == "cpu"):
        rule = "float16 needs a GPU"
        yield Fault("trainer.precision", rule, "write trainer.precision=32 or bf16-mixed", trainer.precision)


def _compilation(config: Config) -> Iterable[Fault]:
    value, words = config.trainer.compile, (COMPILE_AUTO, *COMPILE_MODES)
    if not (isinstance(value, bool) or value in words):
        choices = f"false, true, {', '.join(words[:-1])} or {words[-1]}"
        yield Fault("trainer.compile", f"must be {choices}", did_you_mean(str(value), words), str(value))


def _length(config: Config) -> Iterable[Fault]:
    trainer = config.trainer
    if trainer.max_time is not None:
        try:
            max_time_seconds(trainer.max_time)
        except UserError as error:
            yield from error.faults
    if trainer.max_epochs is None and trainer.max_steps is None:
        if trainer.max_time is None:
            rule = "a run needs an end"
            yield Fault("trainer.max_epochs", rule, "set max_epochs, max_steps or max_time", "null")
        elif config.scheduler.get("_target_") != "convoy.optim.schedules.constant":
            rule = "a schedule needs a length in epochs or steps besides trainer.max_time"
            yield Fault("trainer.max_epochs", rule, "set it, or write scheduler=constant", "null")
    if config.scheduler.get("warmup_epochs") and config.scheduler.get("warmup_steps"):
        rule = "can't be combined with scheduler.warmup_epochs"
        yield Fault("scheduler.warmup_steps", rule, "add scheduler.warmup_epochs=0")


def _interval(config: Config) -> Iterable[Fault]:
    node = config.scheduler
    counts_steps = str(node.get("_target_")).startswith("convoy.optim.schedules.") or "{total_steps}" in node.values()
    if counts_steps and node.get("interval") == "epoch":
        yield Fault(
            "scheduler.interval", "this schedule counts optimizer steps", "write scheduler.interval=step", "epoch"
        )


def _batch(config: Config) -> Iterable[Fault]:
    trainer = config.trainer
    if isinstance(trainer.gpus, int) and not isinstance(trainer.gpus, bool):
        ranks = max(trainer.gpus, trainer.processes) * trainer.nodes
    else:
        ranks = trainer.nodes
    micro: Any = trainer.micro_batch_size
    if not (micro is None or micro == "auto" or (isinstance(micro, int) and not isinstance(micro, bool))):
        rule = "must be null, auto or a whole number from 1"
        yield Fault("trainer.micro_batch_size", rule, "", str(micro))
        return
    given = None if micro == "auto" else micro
    if min(trainer.global_batch_size, given or 1, ranks) >= 1:
        try:
            divide(trainer.global_batch_size, given, ranks)
        except UserError as error:
            yield from error.faults


def _mixing(config: Config) -> Iterable[Fault]:
    trainer = config.trainer
    given = trainer.micro_batch_size if isinstance(trainer.micro_batch_size, int) else None
    for name in ("mixup", "cutmix"):
        alpha = config.task.get(name)
        if isinstance(alpha, (int, float)) and alpha > 0 and (given or trainer.global_batch_size) < 2:
            yield Fault(f"task.{name}", "mixes pairs of a batch", "use a micro batch of at least 2")
            return


def _averaging(config: Config) -> Iterable[Fault]:
    start, trainer = config.trainer.swa_start_epoch, config.trainer
    if start is not None and trainer.ema_decay is not None:
        rule = "can't be combined with trainer.ema_decay"
        yield Fault("trainer.swa_start_epoch", rule, "set one of them to null", str(start))
    if start is not None and trainer.max_epochs is not None and start >= trainer.max_epochs:
        rule = f"must be below trainer.max_epochs={trainer.max_epochs}"
        yield Fault("trainer.swa_start_epoch", rule, f"write {trainer.max_epochs * 3 // 4}", str(start))
    for name, node in config.callback.items():
        if isinstance(node, Mapping) and str(node.get("_target_")).endswith(".StochasticWeightAveraging"):
            rule = "replaces the schedule and adds an epoch, which Convoy's schedules and checkpoints don't follow"
            yield Fault(f"callback.{name}", rule, "write trainer.swa_start_epoch=… instead", str(node["_target_"]))


def _overfitting(config: Config) -> Iterable[Fault]:
    if config.debug.overfit_below is None:
        return
    for group, name in (("task", "mixup"), ("task", "cutmix"), ("loss", "label_smoothing")):
        value = getattr(config, group).get(name)
        if isinstance(value, (int, float)) and value > 0:
            rule = "keeps the loss of a batch above 0, which debug=overfit lowers"
            yield Fault(f"{group}.{name}", rule, f"add {group}.{name}=0", str(value))


def _measuring(config: Config) -> Iterable[Fault]:
    steps = config.ledger.measure_steps
    if steps != 0 and steps < FEWEST_MEASURED_STEPS:
        rule = f"must be 0 (off) or at least {FEWEST_MEASURED_STEPS}"
        yield Fault("ledger.measure_steps", rule, "", str(steps))


def _paths(config: Config) -> Iterable[Fault]:
    if config.logger.tensorboard is None:
        return
    folder = config.logger.tensorboard.folder
    parts = PurePath(folder).parts
    if not parts or parts[0] in ("/", "~") or ".." in parts or not folder.isprintable():
        rule = "must be a folder below the run's folder, such as tensorboard"
        yield Fault("logger.tensorboard.folder", rule, "output_root=… sets where runs are", folder)


def _arguments(config: Config) -> Iterable[Fault]:
    for group in ("optimizer", "scheduler", "loss"):
        yield from range_faults(group, getattr(config, group))


def _targets(config: Config) -> Iterable[Fault]:
    for group in ("model", "optimizer", "scheduler", "task", "loss"):
        yield from target_faults(group, getattr(config, group))
    named = (("metric", config.metric), ("callback", config.callback), ("logger.other", config.logger.other))
    for group, nodes in named:
        for name, node in nodes.items():
            yield from target_faults(f"{group}.{name}", node)


_RULES: tuple[Callable[[Config], Iterable[Fault]], ...] = (
    _choices,
    _ranges,
    _name,
    _devices,
    _compilation,
    _length,
    _interval,
    _batch,
    _mixing,
    _averaging,
    _overfitting,
    _measuring,
    _paths,
    _arguments,
    _targets,
)
