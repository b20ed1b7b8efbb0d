"""Pretrained weights from torchvision or a file, for a network with a different first or last layer."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convoy.config.faults import Fault, UserError, one_line

log = logging.getLogger(__name__)

KEY = "model.pretrained"
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.", "aux_classifier.")
"""Names of the auxiliary classifiers in torchvision's networks."""


def torchvision_weights(model: str, key: str = KEY, *, takes_file: bool = True) -> dict[str, Tensor]:
    """Return the state dict of torchvision's best weights of `model`, downloaded once into torch's hub folder.

    Args:
        model: name of a network of torchvision.
        key: setting that asks for the weights, for errors.
        takes_file: whether that setting can name a file of these weights instead.

    Raises:
        UserError: if there are no weights, or they can't be downloaded.
    """
    from torchvision.models import get_model_weights

    choices = list(get_model_weights(model))
    value, omit = ("true", "; or omit model.pretrained") if key == KEY else ("null", "")
    if not choices:
        rule = f"torchvision has no weights for {model}"
        raise UserError(Fault(key, rule, f"give a file, {key}=<file>{omit}", value))
    best = get_model_weights(model).DEFAULT
    try:
        state: dict[str, Tensor] = best.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        give = f"give the file, {key}=<file>, or " if takes_file else ""
        remedy = f"download {best.url} on a machine with a network connection and {give}put it into {folder}{omit}"
        raise UserError(Fault(key, f"the weights can't be downloaded ({one_line(error)})", remedy, value)) from error
    return state


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a file: the file's content, its "state_dict", or the network of a Convoy checkpoint.

    Raises:
        UserError: if the file contains no weights.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the decoders of torch and safetensors raise many types
        rule = f"can't be read as weights ({one_line(error)})"
        remedy = "give a checkpoint, a .safetensors file, or a file written by torch.save(network.state_dict(), file)"
        raise UserError(Fault(KEY, rule, remedy, str(path))) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(Fault(KEY, "contains no state dict", "give a mapping of names to tensors", str(path)))
    return _network_part({str(name): value for name, value in content.items()})


def _network_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of the network in a state dict, without the prefixes of Lightning, DDP and torch.compile."""
    if any(name.startswith("network.") for name in state):
        state = {name: value for name, value in state.items() if name.startswith("network.")}
    for prefix in ("network.", "module.", "_orig_mod."):
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)


def load_weights(
    network: nn.Module,
    state: Mapping[str, Tensor],
    *,
    num_classes: int,
    in_channels: int,
    source: str,
    fresh: Collection[str] = (),
) -> None:
    """Load `state` into `network`, which may have another number of classes or image channels.

    A tensor with `num_classes` rows in the network and another number in the state belongs to the head and keeps its
    initial values. A first convolution for 3 channels is adapted to `in_channels` (see `fit_channels`). Both are
    logged. Auxiliary classifiers that the network does not have are left out.

    Args:
        network: network to change in place.
        state: state dict.
        num_classes: number of logits of the network.
        in_channels: channels of its images.
        source: origin of the weights, for messages.
        fresh: names of replaced layers, which keep their initial values.

    Raises:
        UserError: if another tensor differs in name or shape; the network is not changed.
    """
    own = network.state_dict()
    left_out = tuple(name for name in _AUXILIARY if not any(key.startswith(name) for key in own))
    state = {key: value for key, value in state.items() if not left_out or not key.startswith(left_out)}
    fitted: dict[str, Tensor] = {}
    left, other_shape = [], []
    for name in own.keys() & state.keys():
        here, there = own[name], state[name]
        if name in fresh or _is_head(here, there, num_classes):
            left.append(name)
        elif _is_first_convolution(here, there, in_channels):
            fitted[name] = fit_channels(there, in_channels)
            log.warning("%s: %s is adapted from 3 to %d channels", source, name, in_channels)
        elif here.shape != there.shape:
            other_shape.append(f"{name} is {_size(there)}, here {_size(here)}")
        else:
            fitted[name] = there
    parts = {
        "of another shape": sorted(other_shape),
        "missing": sorted(own.keys() - state.keys()),
        "unknown": sorted(state.keys() - own.keys()),
    }
    if any(parts.values()):
        rule = f"{source} does not fit this model: " + "; ".join(
            f"{len(names)} {what} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
            for what, names in parts.items()
            if names
        )
        remedy = "give weights of the same model, data.channels and data.image_size"
        raise UserError(Fault(KEY, rule, remedy))
    if left:
        heads = {int(state[name].shape[0]) for name in left if name not in fresh}
        reason = f": the head has {num_classes} outputs, in the file {', '.join(map(str, heads))}" if heads else ""
        log.warning("%s: %s not loaded; they keep their initial values%s", source, ", ".join(sorted(left)), reason)
    network.load_state_dict({**{name: own[name] for name in left}, **fitted})


def fit_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Return a first convolution's weights (O, 3, F, F) for `in_channels` channels: (O, in_channels, F, F).

    One channel receives the sum of the three, so that a gray image has the same output as an RGB image of three equal
    channels. Otherwise, the three channels are repeated in turn and multiplied by 3 / in_channels.
    """
    if in_channels == 1:
        return weight.sum(1, keepdim=True)
    repeated = weight.repeat(1, -(-in_channels // 3), 1, 1)[:, :in_channels]
    return repeated * (3 / in_channels)


def _is_head(here: Tensor, there: Tensor, num_classes: int) -> bool:
    if here.dim() != there.dim() or here.dim() == 0 or not here.shape[0] == num_classes != there.shape[0]:
        return False
    same_inputs = here.shape[1:] == there.shape[1:]
    # A convolution from scores to scores.
    return same_inputs or (here.dim() == 4 and here.shape[1] == num_classes and there.shape[0] == there.shape[1])


def _is_first_convolution(here: Tensor, there: Tensor, in_channels: int) -> bool:
    if here.dim() != 4 or in_channels == 3:
        return False
    filters, channels, height, width = here.shape
    return channels == in_channels and tuple(there.shape) == (filters, 3, height, width)


def _size(tensor: Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "a number"
