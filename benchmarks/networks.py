"""Configs, data and networks of the benchmarks of training, by the code of `convoy train`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from convoy.config.batch import divide
from convoy.config.schema import Config
from convoy.data.data_module import ImageData
from convoy.training.preflight import read
from convoy.training.run import _build_module, _open_data


def composed(defaults: Sequence[str], own: Sequence[str], *, steps: int, batch: int) -> Config:
    """A config to be trained on the CPU for `steps` optimizer steps of `batch` images.

    Args:
        defaults: overrides of the benchmark; those of a key that `own` chooses, and below it, are left out.
        own: overrides of whoever runs it.
        steps, batch: of the training.
    """
    chosen = [word.lstrip("+~").split("=", 1)[0] for word in own]
    kept = [word for word in defaults if not any(f"{word.split('=')[0]}.".startswith(f"{key}.") for key in chosen)]
    length = [f"trainer.max_steps={steps}", f"trainer.global_batch_size={batch}"]
    return read([*kept, *own, *length, "trainer.gpus=0", "logger=csv"])


def opened(config: Config) -> ImageData:
    """The data of a run of that config, read."""
    return _open_data(config, divide(config.trainer.global_batch_size, None, 1))


def built(config: Config, data: ImageData) -> nn.Module:
    """The network of a run of that config."""
    return _build_module(config, data).network
