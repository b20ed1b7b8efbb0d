"""Record of a run's devices, with which a resumed run chooses the same devices."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from convoy.config.faults import UserError
from convoy.config.schema import Config
from convoy.runtime.allocator_settings import allocator_settings
from convoy.runtime.cpu_cores import own_cores
from convoy.runtime.devices import Devices, choose


@dataclass(frozen=True)
class Recorded:
    """Devices of an earlier start of a run.

    Attributes:
        device: Display name, such as "2 x NVIDIA A100".
        gpus: GPUs per node; 0 on the CPU.
        world_size: Number of ranks.
        precision: Precision in the terms of trainer.precision.
    """

    device: str
    gpus: int
    world_size: int
    precision: str

    @staticmethod
    def of(environment: Mapping[str, Any]) -> Recorded | None:
        """Return the record in the content of an environment.json; None if there is none."""
        try:
            found = environment["machine"]
            devices = str(found["device"]), int(found["gpus_per_node"]), int(found["world_size"])
            return Recorded(*devices, str(found["precision"]))
        except (KeyError, TypeError, ValueError):
            return None


def described(devices: Devices, *, deterministic: bool) -> dict[str, Any]:
    """Return the record of a run's devices and of the settings of its libraries, for environment.json.

    Args:
        devices: Devices of the run.
        deterministic: Whether trainer.deterministic is on.
    """
    return {
        "device": devices.name,
        "gpus_per_node": _gpus(devices),
        "nodes": devices.nodes,
        "world_size": devices.world_size,
        "precision": _as_typed(devices.precision),
        "cpu_threads": devices.cpu_threads,
        "allocator": allocator_settings(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "cudnn": {
            "version": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "enabled": torch.backends.cudnn.enabled,
            "benchmark": not deterministic,
            "deterministic": deterministic,
            "allow_tf32": torch.backends.cudnn.allow_tf32,
        },
    }


def choose_again(config: Config, recorded: Recorded, busy_cores: int) -> tuple[Devices, list[str]]:
    """Choose the devices of a resumed run: those of its last start, if this machine has them.

    The record applies only to settings that the config leaves to the machine (auto).

    Args:
        config: Config of the run.
        recorded: Devices of its last start.
        busy_cores: Cores that other processes keep busy.

    Returns:
        The devices, and a line for each difference from the record.

    Raises:
        UserError: If the machine does not have the devices that the config requires.
    """
    fresh, devices = _first_possible(config, recorded, busy_cores)
    notices = []
    if devices.name != recorded.device or devices.world_size != recorded.world_size:
        was, now = _ranks(recorded.device, recorded.world_size), _ranks(devices.name, devices.world_size)
        notices.append(f"this run was on {was} and resumes on {now}: sums round differently")
    elif fresh is not None and fresh.name != devices.name:
        notices.append(f"{devices.name}, as before; trainer.gpus={_gpus(fresh)} uses {fresh.name}")
    if _as_typed(devices.precision) != recorded.precision:
        now = f"resumes in {_as_typed(devices.precision)}"
        notices.append(f"this run was in {recorded.precision} and {now}: results differ")
    threads = config.hardware.cpu_threads
    if threads is not None and threads > (cores := own_cores(devices.per_node)):
        remedy = f"hardware.cpu_threads={cores} is faster, and sums round differently"
        notices.append(f"{threads} threads, as before, on {cores} core{'' if cores == 1 else 's'}; {remedy}")
    return devices, notices


def _first_possible(config: Config, recorded: Recorded, busy_cores: int) -> tuple[Devices | None, Devices]:
    """Return the choice without the record, None if it is impossible, and the one that is nearest to the record."""
    trainer = config.trainer
    same: dict[str, Any] = {}
    # In a Slurm job, the allocation decides about GPUs.
    if trainer.gpus == "auto" and "SLURM_NTASKS" not in os.environ:
        is_asked_for = config.hardware.accelerator == "gpu"
        same |= {} if is_asked_for and not recorded.gpus else {"gpus": recorded.gpus}
    if trainer.precision == "auto":
        same["precision"] = recorded.precision
    try:
        fresh = choose(config, busy_cores)
    except UserError:
        fresh = None
    for names in (tuple(same), ("precision",), ("gpus",)):
        changes = {name: same[name] for name in names if name in same}
        try:
            return fresh, choose(replace(config, trainer=replace(trainer, **changes)), busy_cores)
        except UserError:
            continue
    return fresh, fresh or choose(config, busy_cores)


def _gpus(devices: Devices) -> int:
    return 0 if devices.accelerator == "cpu" else devices.per_node


def _ranks(device: str, world_size: int) -> str:
    return device if world_size == 1 else f"{device} ({world_size} ranks)"


def _as_typed(precision: str) -> str:
    return "32" if precision == "32-true" else precision
