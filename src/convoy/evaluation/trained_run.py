"""Trained networks of runs, with their config, metadata and task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from convoy.config.compose import from_saved, overlay, to_config
from convoy.config.faults import Fault, UserError, one_line
from convoy.config.image_size import ImageSize, sides_of
from convoy.config.options import Options
from convoy.config.schema import Config
from convoy.data.data_module import Batches, ImageData
from convoy.data.images.preparation import Preparation
from convoy.evaluation.network_facts import Facts
from convoy.models.building.build import build_model
from convoy.runs.layout import shown
from convoy.runs.lookup import find_checkpoint, find_run, run_of
from convoy.runtime.cpu_cores import own_cores
from convoy.runtime.devices import Devices, choose, configure_torch
from convoy.tasks.construction import build_task
from convoy.tasks.task import Task
from convoy.training.preflight import checked
from convoy.training.resume import load, load_weights


@dataclass(frozen=True)
class TrainedRun:
    """Trained network, opened from a run's folder or from a checkpoint alone.

    Attributes:
        folder: folder for results: the run's folder, or the checkpoint's if it is not in a run's folder.
        checkpoint: file of the weights.
        config: config of the run.
        facts: names of targets, preparation and config.
        task: task of the run.
        network: network in evaluation mode, on the CPU, in float32.
    """

    folder: Path
    checkpoint: Path
    config: Config
    facts: Facts
    task: Task
    network: nn.Module

    @classmethod
    def open(
        cls, run: str | None, checkpoint: str = "best", output_root: str = "outputs", key: str = "run"
    ) -> TrainedRun:
        """Build a run's network and load a checkpoint, without the run's data.

        Args:
            run: folder or name of a run, latest, or a checkpoint file in a run's folder, which overrides
                `checkpoint`; None if `checkpoint` is a file in any folder.
            checkpoint: best, last, or a file.
            output_root: folder in which latest and names are looked up.
            key: name of the run's setting, for messages.

        Raises:
            UserError: if there is no such run or checkpoint, or it can't be used.
        """
        if run is None:
            file = Path(checkpoint)
            if not file.is_file():
                raise UserError(
                    Fault("checkpoint", "no such file", "name a checkpoint, or a run with run=", checkpoint)
                )
            found = run_of(file)
        else:
            found = find_run(run, output_root, key)
            file = Path(run) if run.endswith(".ckpt") else find_checkpoint(found, checkpoint)
        content = load(file)
        file = file.absolute()
        config = from_saved(content["convoy"]["config"] if found is None else found.saved_config())
        names = tuple(str(name) for name in content["convoy"]["target_names"])
        opened = _built(file.parent if found is None else found.path, file, to_config(config), names)
        load_weights(opened.network, content, file)
        return opened

    def open_data(self, overrides: Sequence[str] = (), options: Options | None = None) -> RunData:
        """Open the run's data or another set.

        Another set is prepared like the run's images, unless overrides change the preparation.

        Args:
            overrides: overrides of the run's config: data, trainer, hardware, seed.
            options: folders of the options.

        Raises:
            UserError: if the data can't be used, or the network does not accept its images.
        """
        saved = from_saved(self.facts.config)
        saved.folder = saved.resume = None
        if saved.hardware.cpu_threads is not None:  # of the machine that trained
            saved.hardware.cpu_threads = min(saved.hardware.cpu_threads, own_cores(1))
        config = checked(overlay(saved, [*overrides, *_as_trained(self.config, overrides)], options))
        devices = choose(config)
        configure_torch(devices, tf32=config.trainer.tf32)
        self._check_images(config)
        return RunData(config, devices, _opened(config))

    @property
    def title(self) -> str:
        """Run and checkpoint, for the first line of a result."""
        return f"{self.config.name}, {shown(self.checkpoint)}"

    def _check_images(self, config: Config) -> None:
        """Raise if the network does not accept images of a config's size or channels."""
        shape = (config.data.channels, *sides_of(config.data.image_size))
        if shape == self.facts.preparation.shape:
            return
        try:
            with torch.inference_mode():
                self.network(torch.zeros(1, *shape))
        except RuntimeError as error:
            rule = f"the network does not take images of {'x'.join(map(str, shape))} ({one_line(error)})"
            remedy = f"omit data.image_size and data.channels to use those of {shown(self.folder)}"
            raise UserError(Fault("data", rule, remedy, config.data.name)) from error


@dataclass(frozen=True)
class RunData:
    """Opened data for a trained run: its data set or another one.

    Attributes:
        config: the run's config with overrides.
        devices: devices of the config, of which one is used.
        images: the data set.
    """

    config: Config
    devices: Devices
    images: ImageData

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.config.data.name

    @property
    def device(self) -> torch.device:
        """Device of the forward passes."""
        return torch.device(self.devices.accelerator)

    def of_size(self, image_size: ImageSize) -> RunData:
        """Return the data with images of another size, of which val and test show the center."""
        data, sides = self.config.data, sides_of(image_size)
        if sides == sides_of(data.image_size):
            return self
        resize = None if data.eval_resize is None else sides.shorter
        config = replace(self.config, data=replace(data, image_size=sides.value, eval_resize=resize))
        return RunData(config, self.devices, _opened(config))

    def check_split(self, split: str) -> None:
        """Raise if the data has no such split.

        Raises:
            UserError: if the split has no images; the message lists the available splits.
        """
        if not self.images.sizes.get(split):
            there = ", ".join(name for name, count in self.images.sizes.items() if count)
            raise UserError(Fault("split", f"{self.name} has no such split", f"it has {there}", split))

    def batches(self, split: str) -> Batches:
        """Return the batches of a split on the device, in order and without augmentation."""
        return self.images.evaluation_loader(split, device=self.device)

    def autocast(self) -> torch.autocast:
        """Return a context in which the network computes in the run's precision."""
        half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(self.devices.precision)
        return torch.autocast(self.device.type, dtype=half, enabled=half is not None)


def build_network(facts: Facts, task: Task) -> nn.Module:
    """Build the network of a run or an exported file with initial weights, in evaluation mode."""
    sizes = facts.preparation.model_sizes(task.num_outputs)
    return build_model(facts.model, **sizes, output_check=task.output_check).eval()


def _built(folder: Path, checkpoint: Path, config: Config, names: tuple[str, ...]) -> TrainedRun:
    facts = Facts(config.name, names, Preparation.of(config.data), asdict(config))
    task = build_task(config, facts.targets)
    network = build_network(facts, task)
    if config.trainer.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return TrainedRun(folder, checkpoint, config, facts, task, network)


def _as_trained(trained: Config, overrides: Sequence[str]) -> list[str]:
    """Return overrides that give another data set the preparation of the run's images."""
    typed = {text.partition("=")[0] for text in overrides}
    if "data" not in typed:
        return []
    values = {
        f"data.{key}": getattr(trained.data, key)
        for key in ("channels", "value_range", "image_size", "background", "mean", "std")
    }
    return [
        f"{key}={'null' if value is None else list(value) if isinstance(value, list | tuple) else value}"
        for key, value in values.items()
        if key not in typed
    ]


def _opened(config: Config) -> ImageData:
    trainer = config.trainer
    data = ImageData(
        config.data,
        seed=config.seed,
        micro_batch_size=1,
        accumulation=1,
        eval_batch_size=trainer.eval_batch_size or 2 * int(trainer.micro_batch_size or trainer.global_batch_size),
        channels_last=trainer.channels_last,
    )
    data.open()
    return data
