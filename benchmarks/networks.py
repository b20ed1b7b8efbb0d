"""Configs, data and networks for benchmarks of training, built by the code of `convoy train`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from convoy.config.batch import divide
from convoy.config.schema import Config
from convoy.data.data_module import ImageData
from convoy.runtime.devices import choose
from convoy.training.machine import Machine
from convoy.training.preflight import read
from convoy.training.run_parts import build_module, open_data


def composed(defaults: Sequence[str], own: Sequence[str], *, steps: int, batch: int) -> Config:
    """Return a config for training on the CPU.

    Args:
        defaults: Overrides of the benchmark, without those whose key, or a parent of it, is in `own`.
        own: Overrides of the user.
        steps: Number of optimizer steps.
        batch: Images per optimizer step.
    """
    chosen = [word.lstrip("+~").split("=", 1)[0] for word in own]
    kept = [word for word in defaults if not any(f"{word.split('=')[0]}.".startswith(f"{key}.") for key in chosen)]
    length = [f"trainer.max_steps={steps}", f"trainer.global_batch_size={batch}"]
    return read([*kept, *own, *length, "trainer.gpus=0", "logger=csv"])


def opened(config: Config) -> ImageData:
    """Return the data of a run, opened."""
    return open_data(Machine(config, choose(config), divide(config.trainer.global_batch_size, None, 1), ()))


def built(config: Config, data: ImageData) -> nn.Module:
    """Return the network of a run."""
    return build_module(config, data).network
