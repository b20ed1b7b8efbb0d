"""Networks built from the `model` group: checked without torch, constructed, and run on one image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convoy.config import targets
from convoy.config.faults import Fault, UserError, did_you_mean, one_line
from convoy.config.image_size import ImageSize, sides_of
from convoy.models.building import diagnosis
from convoy.models.building.freezing import freeze_faults, freeze_weights
from convoy.models.building.stochastic_depth import drop_branches, stochastic_depth_faults
from convoy.models.libraries import stem_faults
from convoy.models.notation.shapes import read_chain

if TYPE_CHECKING:
    from torch import nn

CHAIN = "convoy.models.chain.Chain"
CHAIN_KEYS = (
    "_target_",
    "name",
    "layers",
    "activation",
    "batch_norm",
    "pooling",
    "pretrained",
    "weights",
    "lr",
    "freeze",
    "unfreeze_epoch",
    "freeze_norms",
    "stochastic_depth",
    "card",
)

_BEST = "checkpoints/best.ckpt"
"""Weights of a run, relative to its folder."""

_AUXILIARY_REASON = "its auxiliary classifier needs more"

OutputCheck = Callable[[Any, Any], str | None]
"""Function of (outputs, images) that returns the reason why outputs don't fit a task, or None."""


def check_model(
    model: Mapping[str, Any], *, num_classes: int | None, in_channels: int, image_size: ImageSize
) -> list[Fault]:
    """Return the faults of a `model` group that can be found without torch.

    Args:
        model: the group as plain containers.
        num_classes: number of classes; None if not known yet.
        in_channels: channels of the images.
        image_size: side of the square images in pixels, or (height, width).
    """
    faults = targets.target_faults("model", model)
    if model.get("name", "") == "???":
        faults.append(Fault("model.name", "is missing", "name the model, such as model.name=resnet18"))
    faults += _pretrained_faults(model.get("pretrained", False))
    faults += _auxiliary_faults(model.get("auxiliary_weight", 0))
    faults += freeze_faults(model) + stochastic_depth_faults(model)
    if str(model.get("_target_")).startswith("convoy.models."):
        faults += _size_faults(model)
        faults += stem_faults(model["stem"]) if "stem" in model else []
    if model.get("_target_") == CHAIN:
        faults += _chain_faults(model, num_classes, in_channels, image_size)
    return faults


def build_model(
    model: Mapping[str, Any],
    *,
    num_classes: int,
    in_channels: int,
    image_size: ImageSize,
    output_check: OutputCheck | None = None,
) -> nn.Module:
    """Return the network of a `model` group for images [N, in_channels, H, W].

    Args:
        model: the group.
        num_classes: number of classes, labels or values.
        in_channels: channels of an image.
        image_size: side of a square image in pixels, or (height, width).
        output_check: the task's check of the outputs for one image; None to require shape [N, num_classes].

    Raises:
        UserError: if the network can't be constructed (see `construct_model`) or does not accept such images.
    """
    network = construct_model(model, num_classes=num_classes, in_channels=in_channels, image_size=image_size)
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    try_on_one_image(network, model, sizes, output_check)
    return network


def construct_model(
    model: Mapping[str, Any], *, num_classes: int, in_channels: int, image_size: ImageSize
) -> nn.Module:
    """Return the network of a `model` group without running it on an image.

    num_classes, in_channels and image_size are passed to the target if its signature names them and the group does
    not set them. In an argument, the text "{num_classes}", "{in_channels}" or "{image_size}" is replaced by the
    number; that of images that are not square by (height, width).

    Raises:
        UserError: if the group is invalid (see `check_model`), the target rejects its arguments, or the weights
            can't be loaded.
    """
    faults = check_model(model, num_classes=num_classes, in_channels=in_channels, image_size=image_size)
    if faults:
        raise UserError(*faults)
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
    pretrained = model.get("pretrained", False)
    parameters = targets.parameters_of(targets.resolve(model["_target_"], "model"))
    left_out = {"pretrained", *({"name"} - parameters.keys()), *({"weights"} if model["_target_"] == CHAIN else ())}
    node = {key: _fill_placeholders(value, sizes) for key, value in model.items() if key not in left_out}
    if pretrained is True and ("pretrained" in parameters or targets.takes_any_keyword(parameters)):
        node["pretrained"], pretrained = True, False
    published = _published_weights(model) if pretrained is True else None
    given = {name: value for name, value in sizes.items() if name in parameters and name not in node}
    network = _constructed(model, node, given)
    if pretrained:
        from convoy.models.building.weights import load_weights, read_weights, torchvision_weights

        source = f"torchvision's {published}" if published else str(_weights_file(pretrained))
        state = torchvision_weights(published) if published else read_weights(Path(source))
        load_weights(network, state, num_classes=num_classes, in_channels=in_channels, source=source)
    freeze_weights(network, model, num_classes)
    drop_branches(network, float(model.get("stochastic_depth", 0.0)))
    return network


def _constructed(model: Mapping[str, Any], node: Mapping[str, Any], given: Mapping[str, Any]) -> nn.Module:
    """Call the target of a `model` group with the arguments of `node` and the sizes in `given`."""
    from torch import nn

    faults = targets.signature_faults("model", node, frozenset(given))
    if faults:
        raise UserError(*faults)
    network = targets.build("model", node, **given)
    if not isinstance(network, nn.Module):
        raise UserError(diagnosis.type_fault(model, network))
    return network


def _pretrained_faults(pretrained: Any) -> list[Fault]:
    if isinstance(pretrained, bool) or (isinstance(pretrained, str) and _weights_file(pretrained).is_file()):
        return []
    rule = "must be true, false, a run's folder or a file of weights"
    if isinstance(pretrained, str):
        rule = "no such file or run"
        if Path(pretrained).is_dir():
            rule = f"has no {_BEST}" if (Path(pretrained) / "config.yaml").is_file() else "is not a run's folder"
    remedy = "write true for the library's weights, a run's folder, or the path of a checkpoint or .safetensors file"
    return [Fault("model.pretrained", rule, remedy, str(pretrained))]


def _published_weights(model: Mapping[str, Any]) -> str:
    """Return the network of torchvision that has the layers of a chain: `weights: torchvision.<network>`.

    Raises:
        UserError: if the group names none, or its target is no chain.
    """
    library, _, name = str(model.get("weights")).partition(".")
    if model["_target_"] == CHAIN and library == "torchvision" and name:
        return name
    rule = f"there are no published weights for {model.get('name', model['_target_'])}"
    remedy = "give a file, model.pretrained=<file>, or omit model.pretrained"
    raise UserError(Fault("model.pretrained", rule, remedy, "true"))


def _weights_file(text: str) -> Path:
    """Return the best checkpoint of a run's folder, or the file itself."""
    path = Path(text).expanduser()
    return path / _BEST if path.is_dir() else path


def _size_faults(model: Mapping[str, Any]) -> list[Fault]:
    """Return the negative arguments of a built-in network, other than indices, which may count from the end."""
    return [
        Fault(f"model.{name}", "must be at least 0", "", str(value))
        for name, value in targets.arguments("model", model).items()
        if isinstance(value, int | float) and value < 0 and name not in ("auxiliary_weight", "level")
    ]


def _auxiliary_faults(weight: Any) -> list[Fault]:
    if isinstance(weight, int | float) and not isinstance(weight, bool) and weight >= 0:
        return []
    rule = "is the weight of each auxiliary loss, 0 or more"
    return [Fault("model.auxiliary_weight", rule, "write a number such as 0.3", str(weight))]


def _chain_faults(
    model: Mapping[str, Any], num_classes: int | None, in_channels: int, image_size: ImageSize
) -> list[Fault]:
    faults = [
        Fault(
            f"model.{key}",
            "a chain of layers has no such key",
            did_you_mean(key, CHAIN_KEYS, f"it has {', '.join(CHAIN_KEYS[1:])}"),
            str(value),
        )
        for key, value in model.items()
        if key not in CHAIN_KEYS
    ]
    texts = [key for key in ("activation", "pooling") if not isinstance(model.get(key, ""), str)]
    if texts:
        return faults + [Fault(f"model.{key}", "must be text", "see docs/models.md", str(model[key])) for key in texts]
    try:
        read_chain(
            model.get("layers"),
            num_classes=num_classes,
            in_channels=in_channels,
            image_size=image_size,
            activation=model.get("activation", "relu"),
            batch_norm=model.get("batch_norm", False),
            pooling=model.get("pooling", "max"),
        )
    except UserError as error:
        faults += error.faults
    return faults


def _fill_placeholders(value: Any, sizes: Mapping[str, Any]) -> Any:
    """Return `value` with the placeholders such as "{num_classes}" replaced by their numbers, at any depth."""
    if isinstance(value, Mapping):
        return {key: _fill_placeholders(child, sizes) for key, child in value.items()}
    if isinstance(value, list):
        return [_fill_placeholders(child, sizes) for child in value]
    if isinstance(value, str) and value[:1] == "{" and value[-1:] == "}":
        return sizes.get(value[1:-1], value)
    return value


def refuse_too_small(
    network: nn.Module, model: Mapping[str, Any], *, num_classes: int, in_channels: int, image_size: ImageSize
) -> None:
    """Raise if images are too small for a network. Only shapes are computed, so that no weights are needed.

    Args:
        network: network of the `model` group on any device, including the meta device.
        model: the group.
        num_classes: number of classes of the network.
        in_channels: channels of its images.
        image_size: side of its square images in pixels, or (height, width).

    Raises:
        UserError: if the network accepts only larger images; the message names the smallest size. Networks that
            accept a single size or need the values of tensors are checked by `try_on_one_image`.
    """
    from convoy.models.building.sizes import refusal_of, smallest_image_size

    error = refusal_of(network.eval(), in_channels, image_size)
    reason = one_line(error) if error else ""
    if not error and getattr(network, "aux_logits", False) and refusal_of(network.train(), in_channels, image_size):
        reason = _AUXILIARY_REASON
    if reason and smallest_image_size(network.train(), in_channels, image_size):
        sizes = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
        fault = _size_fault(network, model, sizes, reason)
        if fault:
            raise UserError(fault)


def try_on_one_image(
    network: nn.Module, model: Mapping[str, Any], sizes: Mapping[str, Any], output_check: OutputCheck | None = None
) -> None:
    """Run a network on one image and check its output.

    Args:
        network: network of the group.
        model: the group.
        sizes: num_classes, in_channels and image_size of the network.
        output_check: see `build_model`.

    Raises:
        UserError: if the network does not accept the image, or returns something else than the task expects. The
            message names the smallest image size if there is one.
    """
    import torch

    from convoy.models.building.sizes import takes_image_size

    in_channels, image_size = sizes["in_channels"], sizes["image_size"]
    image = torch.zeros(1, in_channels, *sides_of(image_size))
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            output = network(image)
    except Exception as error:  # layers raise various types for an unsuitable input
        fault = _size_fault(network, model, sizes, one_line(error))
        raise UserError(fault or diagnosis.forward_fault(model, error, in_channels, image_size)) from error
    network.train(was_training)
    if output_check is None:
        fault = diagnosis.output_fault(model, output, sizes["num_classes"])
    else:
        reason = output_check(output, image)
        fault = diagnosis.task_fault(model, reason) if reason else None
    if fault:
        raise UserError(fault)
    # Auxiliary classifiers run only in training and may need a larger image.
    if getattr(network, "aux_logits", False) and not takes_image_size(network.train(), in_channels, image_size):
        fault = _size_fault(network, model, sizes, _AUXILIARY_REASON)
        if fault:
            raise UserError(fault)


def _size_fault(network: nn.Module, model: Mapping[str, Any], sizes: Mapping[str, Any], reason: str) -> Fault | None:
    return diagnosis.size_fault(network, model, sizes, reason, small_stem=_small_stem_takes(model, sizes))


def _small_stem_takes(model: Mapping[str, Any], sizes: Mapping[str, Any]) -> bool:
    """Return whether the network accepts the images with model.stem=small."""
    import torch
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    from convoy.models.building.sizes import takes_image_size

    if model.get("stem") != "standard" or diagnosis.is_users(model):
        return False
    try:
        with unset_fake_temporarily(), torch.device("meta"):
            network = construct_model({**model, "stem": "small", "pretrained": False}, **sizes)
    except Exception:  # its first layer has no small form, or its constructor needs values
        return False
    return takes_image_size(network.train(), sizes["in_channels"], sizes["image_size"])
