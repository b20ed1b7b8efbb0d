"""Checks that need torch, and the choice of devices, threads and batch division on this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace

from convoy.config.batch import BatchSizes
from convoy.config.faults import Fault, UserError
from convoy.config.schema import Config
from convoy.config.targets import signature_faults
from convoy.optim.build_optimizer import check_optimizer, check_scheduler, try_targets
from convoy.runtime.cpu_cores import CoreTimes, cores_of_others, own_cores
from convoy.runtime.devices import Devices, choose, configure_torch
from convoy.runtime.machine_record import Recorded, choose_again
from convoy.tasks.construction import check_task
from convoy.training.compilation import check_compilation
from convoy.training.gpu_memory import sizes_for
from convoy.training.preflight import check_images


@dataclass(frozen=True)
class Machine:
    """Devices and batch division that a run found on its machine.

    Attributes:
        config: with what was chosen for the machine. The run and every later start of it keep these values: another
            number of threads or another micro batch changes the last digits.
        devices: devices, precision and threads.
        sizes: division of the global batch.
        notices: lines for the console.
    """

    config: Config
    devices: Devices
    sizes: BatchSizes
    notices: tuple[str, ...]


def check_with_torch(config: Config) -> None:
    """Check what needs the libraries: arguments of targets, and whether the network takes the images.

    Raises:
        UserError: with every fault of the first check that finds any.
    """
    faults = check_optimizer(config.optimizer) + check_scheduler(config.scheduler) + check_task(config)
    for name, node in config.callback.items():
        faults += signature_faults(f"callback.{name}", node)
    if faults:
        raise UserError(*faults)
    try_targets(config)
    check_images(config)


def choose_machine(config: Config, since: CoreTimes | None = None, recorded: Recorded | None = None) -> Machine:
    """Choose devices, threads and batch division for this machine, and set the process's threads.

    Args:
        config: of the run.
        since: start of the time in which other processes were watched; None if they weren't.
        recorded: devices of the last start of a resumed run, which are chosen again.

    Raises:
        UserError: the config asks for what this machine doesn't have, or a batch that doesn't divide or fit.
    """
    notices: list[str] = []
    busy = 0 if since is None else cores_of_others(since, CoreTimes.now())
    if recorded is None:
        devices = choose(config, busy)
    else:
        devices, notices = choose_again(config, recorded, busy)
    if config.trainer.sync_batchnorm and devices.accelerator == "cpu" and devices.world_size > 1:
        rule = "torch.nn.SyncBatchNorm runs on GPUs only"
        raise UserError(Fault("trainer.sync_batchnorm", rule, "write trainer.sync_batchnorm=false", "true"))
    is_free = config.hardware.cpu_threads is None and devices.per_node == 1 and devices.accelerator == "cpu"
    if is_free and devices.cpu_threads < own_cores(1):
        threads = "1 thread" if devices.cpu_threads == 1 else f"{devices.cpu_threads} threads"
        cores = "a core" if busy == 1 else f"{busy} cores"
        notices.append(f"{threads}, since other processes keep {cores} busy; hardware.cpu_threads=… asks for more")
    if devices.accelerator == "cpu":
        config = replace(config, hardware=replace(config.hardware, cpu_threads=devices.cpu_threads))
    if devices.accelerator == "mps" and config.trainer.channels_last:
        # github.com/pytorch/pytorch/issues/175189: gradients of batch norms are wrong.
        config = replace(config, trainer=replace(config.trainer, channels_last=False))
        notices.append("channels_last: false, since gradients of batch norms are wrong with it on an Apple GPU")
    configure_torch(devices, tf32=config.trainer.tf32)
    sizes, planned = sizes_for(config, devices)
    if planned:
        notices.append(planned)
        config = replace(config, trainer=replace(config.trainer, micro_batch_size=sizes.micro_batch_size))
    if config.trainer.sam_radius is not None and sizes.accumulation > 1:
        rule = "repeats a pass over the whole batch, which accumulation divides"
        remedy = f"write trainer.micro_batch_size=null, or trainer.global_batch_size={sizes.micro_batch_size}"
        raise UserError(Fault("trainer.sam_radius", rule, remedy, f"{config.trainer.sam_radius:g}"))
    if notice := check_compilation(config.trainer.compile, devices, sizes):
        notices.append(notice)
        config = replace(config, trainer=replace(config.trainer, compile=False))
    return Machine(config, devices, sizes, tuple(notices))
