"""Classification with the outputs of a trained network as additional targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from convoy.config.compose import from_saved, to_config
from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, UserError, one_line
from convoy.config.image_size import sides_of
from convoy.config.schema import Config
from convoy.data.batches.collate import Batch
from convoy.data.targets import Targets
from convoy.models.building.build import construct_model
from convoy.models.building.weights import load_weights, read_weights
from convoy.tasks.classification import Classification
from convoy.tasks.losses import ConfiguredLoss

KEY = "task.teacher"


class Distillation(Classification):
    """Task that also trains on the softened outputs of a teacher (Hinton et al. 2015, arXiv:1503.02531).

    The loss is (1 - weight) L + weight T^2 KL(teacher / T || network / T) with the configured loss L and temperature T.
    The teacher runs in evaluation mode on the same images, after augmentation and mixing.

    Args:
        targets: class names.
        loss: see `Classification`.
        teacher: folder of a run, of which the best checkpoint is used, or a checkpoint.
        weight: share of the teacher's loss, from 0 to 1.
        temperature: divisor of the logits, above 0.
        **settings: further arguments of `Classification`.

    Raises:
        ValueError: weight or temperature is out of its range.
    """

    def __init__(
        self,
        targets: Targets,
        loss: ConfiguredLoss,
        teacher: str,
        weight: float = 0.5,
        temperature: float = 4.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        **settings: Any,
    ) -> None:
        super().__init__(targets, loss, mixup, cutmix, **settings)
        if not 0 <= weight <= 1 or temperature <= 0:
            raise ValueError(f"weight must be from 0 to 1 and temperature above 0, not {weight:g} and {temperature:g}")
        self._path, self._weight, self._temperature = str(teacher), weight, temperature
        # In a list, so that its weights are not part of the run's: no checkpoint, average or optimizer has them.
        self._teachers: list[nn.Module] = []

    def prepare(self, data: DataConfig) -> None:
        """Load the teacher and compare its images and classes with those of the run."""
        super().prepare(data)
        if not self._teachers:
            self._teachers.append(_teacher(self._path, data, self.targets))

    @property
    def resident_bytes(self) -> int:
        """Weights and buffers of the teacher."""
        teacher: int = sum(tensor.nbytes for one in self._teachers for tensor in one.state_dict().values())
        return super().resident_bytes + teacher

    def training_losses(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        images, targets = self.mixed(batch)
        losses, logits = self.losses_of(network(images), batch.targets, targets)
        (teacher,) = self._teachers
        if next(teacher.parameters()).device != images.device:
            teacher.to(images.device)
        with torch.no_grad():
            wanted = functional.softmax(teacher(images).float() / self._temperature, 1)
        found = functional.log_softmax(logits.float() / self._temperature, 1)
        divergence = functional.kl_div(found, wanted, reduction="batchmean") * self._temperature**2
        scaled = {name: (1 - self._weight) * value for name, value in losses.items()}
        return {**scaled, "distillation": self._weight * divergence}

    def uninformed_loss(self, device: torch.device) -> float:
        """Return the part of the configured loss."""
        return (1 - self._weight) * super().uninformed_loss(device)


def _teacher(text: str, data: DataConfig, targets: Targets) -> nn.Module:
    """Return the network of a run or a checkpoint in evaluation mode.

    Raises:
        UserError: there is none, or it was trained for other classes or images.
    """
    path = Path(text).expanduser()
    path = path / "checkpoints" / "best.ckpt" if path.is_dir() else path
    if not path.is_file():
        raise UserError(Fault(KEY, "no such run or checkpoint", "name a run's folder or its best.ckpt", text))
    try:
        identity = torch.load(path, map_location="cpu", weights_only=True)["convoy"]
        names = tuple(str(name) for name in identity["target_names"])
        config = to_config(from_saved(identity["config"]))
    except UserError:
        raise
    except Exception as error:  # torch's decoder raises many types
        rule = f"is no checkpoint of Convoy ({one_line(error)})"
        raise UserError(Fault(KEY, rule, "name a run's folder or its best.ckpt", text)) from error
    if faults := _misfits(text, config, names, data, targets):
        raise UserError(*faults)
    model = {key: value for key, value in config.model.items() if key not in ("pretrained", "freeze", "unfreeze_epoch")}
    network = construct_model(
        model, num_classes=len(names), in_channels=data.channels, image_size=sides_of(config.data.image_size).value
    )
    load_weights(network, read_weights(path), num_classes=len(names), in_channels=data.channels, source=str(path))
    return network.eval().requires_grad_(False)


def _misfits(text: str, config: Config, names: tuple[str, ...], data: DataConfig, targets: Targets) -> list[Fault]:
    faults = []
    # The planner does not read the data and has no names to compare.
    is_named = not targets.are_numbered
    if len(names) != len(targets.names):
        rule = f"has {len(names)} classes, and the data {len(targets.names)}"
        faults.append(Fault(KEY, rule, "name a run with the same classes", text))
    elif is_named and names != targets.names:
        first = next(index for index, name in enumerate(names) if name != targets.names[index])
        rule = f"has other classes: class {first} is {names[first]}, and {targets.names[first]} in the data"
        faults.append(Fault(KEY, rule, "name a run with the same classes", text))
    for key in ("channels", "mean", "std"):
        theirs, ours = getattr(config.data, key), getattr(data, key)
        if theirs != ours:
            rule = f"was trained with data.{key}={_shown(theirs)}, this run has {_shown(ours)}"
            faults.append(Fault(KEY, rule, f"add data.{key}={_shown(theirs)}", text))
    return faults


def _shown(value: Any) -> str:
    return str(list(value)).replace(" ", "") if isinstance(value, list | tuple) else str(value)
