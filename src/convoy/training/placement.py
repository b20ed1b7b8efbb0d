"""What a run has of the machine that it finds: devices, threads, and how its batch is divided over them."""

from __future__ import annotations

from dataclasses import replace

from convoy.config.batch import BatchSizes
from convoy.config.schema import Config
from convoy.optim.construction import check_targets
from convoy.runtime.cpu_cores import CoreTimes, cores_of_others
from convoy.runtime.devices import Devices, choose
from convoy.training.gpu_memory import sizes_for
from convoy.training.preflight import check_images
from convoy.training.trainer import use_threads


def place(config: Config, since: CoreTimes | None = None) -> tuple[Config, Devices, BatchSizes, list[str]]:
    """Choose for this machine as it is, and let this process use its threads.

    Args:
        config: of the run.
        since: the beginning of a time in which other processes were watched; None: they weren't.

    Returns:
        The config with what was chosen, which is the run's own from here on and that of every start that goes on with
        it (another number of threads or another micro batch gives other last digits); the devices; the division of the
        batch; and what is to be told of these.

    Raises:
        UserError: the config asks for what this machine doesn't have, or a batch that doesn't divide or fit.
    """
    check_targets(config)
    check_images(config)
    told = []
    busy = 0 if since is None else cores_of_others(since, CoreTimes.now())
    devices = choose(config, busy)
    if devices.accelerator == "cpu" and devices.cpu_threads < choose(config).cpu_threads:
        threads = "1 thread" if devices.cpu_threads == 1 else f"{devices.cpu_threads} threads"
        cores = "a core" if busy == 1 else f"{busy} cores"
        told.append(f"{threads}, since other processes keep {cores} busy; hardware.cpu_threads=… asks for more")
        config = replace(config, hardware=replace(config.hardware, cpu_threads=devices.cpu_threads))
    use_threads(devices)
    sizes, planned = sizes_for(config, devices)
    if planned:
        told.append(planned)
        config = replace(config, trainer=replace(config.trainer, micro_batch_size=sizes.micro_batch_size))
    return config, devices, sizes, told
