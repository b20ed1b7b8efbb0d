"""Error messages for networks that can't be built, fail on an image, or return an unexpected output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from convoy.config import targets
from convoy.config.faults import Fault
from convoy.config.image_size import ImageSize, Sides, sides_of
from convoy.config.trust import TRUST
from convoy.config.user_modules import LIBRARIES, described

if TYPE_CHECKING:
    from torch import nn

SIZE_NAMES = ("num_classes", "in_channels", "image_size")
"""Arguments that Convoy passes to a target if its signature names them."""


def is_users(model: Mapping[str, Any]) -> bool:
    """Return whether the target of a `model` group is a class or function of the user."""
    return str(model["_target_"]).split(".")[0] not in LIBRARIES


def type_fault(model: Mapping[str, Any], built: object) -> Fault:
    """Return the fault of a target that built an object other than a network."""
    rule = f"builds an object of type {type(built).__name__}, not a torch.nn.Module"
    return Fault("model._target_", rule, "name a class that inherits from torch.nn.Module", model["_target_"])


def forward_fault(model: Mapping[str, Any], error: Exception, in_channels: int, image_size: ImageSize) -> Fault:
    """Return the fault of a user's network whose forward pass raised `error`, whatever the size of the image."""
    rule = f"fails on an image of {in_channels}x{sides_of(image_size)} ({described(error, TRUST.module_folders)})"
    missing = [name for name in SIZE_NAMES if not targets.takes(model, "model", name)]
    remedy = "correct its layers or forward"
    if missing:
        remedy += f"; a constructor with an argument {' or '.join(missing)} receives that number"
    return Fault("model._target_", rule, remedy, model["_target_"])


def output_fault(model: Mapping[str, Any], output: Any, num_classes: int) -> Fault | None:
    """Return the fault of a network whose output for one image isn't of shape (1, num_classes); None if it is.

    Args:
        model: the `model` group that built the network.
        output: output of the network in evaluation mode for one image.
        num_classes: number of classes of the data.
    """
    import torch

    expected = (1, num_classes)
    if not isinstance(output, torch.Tensor):
        rule = f"returns {_described(output)} for one image; the task expects a tensor of shape {expected}"
        remedy = "return the logits alone from forward"
        if not is_users(model):
            remedy = "choose a network that returns logits only, or wrap this one in a module that does"
        return _named(model, rule, remedy)
    shape = tuple(output.shape)
    if shape == expected:
        return None
    rule = f"returns shape {shape} for one image; the task expects {expected}"
    return _named(model, rule, _shape_remedy(model, shape, num_classes))


def task_fault(model: Mapping[str, Any], reason: str) -> Fault:
    """Return the fault of a network with outputs that don't fit the task, with the task's reason."""
    return _named(model, reason, "choose a network for this task, or another task")


def _shape_remedy(model: Mapping[str, Any], shape: tuple[int, ...], num_classes: int) -> str:
    if len(shape) != 2 or shape[0] != 1:
        dimensions = f"[B, {num_classes}] for B images"
        return f"pool, flatten or project, so that the output is {dimensions}"
    parameters = targets.parameters_of(targets.resolve(model["_target_"], "model"))
    in_file = 'num_classes: "{num_classes}"'
    if model.get("num_classes") not in (None, num_classes):
        return f"write {in_file} in its file"
    if "num_classes" in parameters:
        return "its last layer must have num_classes outputs"
    if "num_classes" not in model and targets.takes_any_keyword(parameters):
        return f"write {in_file} in its file"
    if is_users(model):
        return "give its constructor an argument num_classes, which Convoy passes, for the last layer's outputs"
    return f"end with a layer of {num_classes} outputs"


def _described(output: Any) -> str:
    if isinstance(output, Mapping):
        return f"a mapping ({type(output).__name__}) with the keys {', '.join(map(str, output))}"
    if isinstance(output, (list, tuple)):
        return f"a {type(output).__name__} of length {len(output)}"
    return f"an object of type {type(output).__name__}"


def _named(model: Mapping[str, Any], rule: str, remedy: str) -> Fault:
    if is_users(model):
        return Fault("model._target_", rule, remedy, str(model["_target_"]))
    return Fault("model.name", rule, remedy, str(model.get("name", model["_target_"])))


def size_fault(
    network: nn.Module, model: Mapping[str, Any], sizes: Mapping[str, Any], reason: str, *, small_stem: bool
) -> Fault | None:
    """Return the fault of a network that accepts only larger images; None if it accepts none of the sizes tried.

    Args:
        network: the network as constructed.
        model: the `model` group.
        sizes: number of classes, channels and image size of the network, by the names of `SIZE_NAMES`.
        reason: error that the network raised for images of this size.
        small_stem: True if the network accepts these images with `model.stem=small`.
    """
    from convoy.models.building.sizes import smallest_image_size, takes_image_size

    in_channels, image_size = sizes["in_channels"], sides_of(sizes["image_size"])
    # In training mode, so that auxiliary classifiers run.
    smallest = smallest_image_size(network.train(), in_channels, image_size)
    made_for = getattr(network, "pretrained_cfg", {}).get("input_size")
    if smallest:
        remedy = f"data.image_size={smallest.text} is the smallest that works"
        if getattr(network, "aux_logits", False):
            network.eval()
            below = image_size if takes_image_size(network, in_channels, image_size) else None
            alone = below or smallest_image_size(network, in_channels, image_size)
            if alone and max(alone) < max(smallest):
                remedy += f", or {alone.text} with model.aux_logits=false"
        if small_stem:
            remedy += f", or {image_size.text} with model.stem=small"
    elif made_for:
        remedy = f"choose data.image_size={Sides(*made_for[1:]).text}"
    elif is_users(model):
        return None
    else:
        remedy = "choose another data.image_size"
    rule = f"does not take images of {in_channels}x{image_size} ({reason})"
    return Fault("model.name", rule, remedy, str(model.get("name", model["_target_"])))
