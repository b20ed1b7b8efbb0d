"""Models of torchvision and timm, by name."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from convoy.config.faults import Fault, UserError, did_you_mean, one_line

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

STEMS = ("standard", "small")


def stem_faults(stem: object) -> list[Fault]:
    """Return the fault of a stem that is not in `STEMS`. Torch is not imported."""
    if stem in STEMS:
        return []
    return [Fault("model.stem", "no such stem", f"choose from {', '.join(STEMS)}", str(stem))]


def refusal(model: str, error: Exception, arguments: Mapping[str, Any]) -> Fault:
    """Return the fault of an argument that a model does not have, or else of the model."""
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if unknown is not None and unknown[1] in arguments:
        name = unknown[1]
        return Fault(f"model.{name}", f"{model} has no such argument", f"omit model.{name}", str(arguments[name]))
    return Fault("model", f"{model} can't be built: {one_line(error)}")


def torchvision_model(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    stem: str = "standard",
    pretrained: bool = False,
    **arguments: Any,
) -> nn.Module:
    """Return a classification model of torchvision.

    Args:
        name: name in torchvision.models.list_models().
        num_classes: number of logits.
        in_channels: channels of an image; the first convolution is adapted (see `weights.fit_channels`).
        stem: standard, or small for small images: the first convolution keeps the resolution and the pooling
            after it is removed (see `stems.make_stem_small`).
        pretrained: load torchvision's best weights; the head is new if the number of classes differs.
        **arguments: arguments of the model; GoogLeNet and Inception v3 have auxiliary classifiers with
            aux_logits=True.

    Raises:
        UserError: if there is no such model, it rejects an argument, or the weights can't be loaded.
    """
    from torchvision import models

    from convoy.models.building.weights import load_weights, torchvision_weights
    from convoy.models.stems import make_stem_small

    names = models.list_models(module=models)
    if name not in names:
        remedy = did_you_mean(name, names, "torchvision.models.list_models() lists all models")
        raise UserError(Fault("model.name", "torchvision has no such classification model", remedy, name))
    if faults := stem_faults(stem):
        raise UserError(*faults)
    options = {**_options_of(name, pretrained=pretrained, in_channels=in_channels), **arguments}
    try:
        network: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **options)
    except Exception as error:  # constructors raise various types for wrong arguments
        raise UserError(refusal(f"torchvision's {name}", error, arguments)) from error
    if in_channels != 3:
        fit_first_convolution(network, in_channels)
    fresh = make_stem_small(network, name) if stem == "small" else ()
    if pretrained:
        load_weights(
            network,
            torchvision_weights(name),
            num_classes=num_classes,
            in_channels=in_channels,
            source=f"torchvision's {name}",
            fresh=fresh,
        )
    return network


def timm_model(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    library_name: str | None = None,
    stem: str = "standard",
    pretrained: bool = False,
    **arguments: Any,
) -> nn.Module:
    """Return a model of timm; timm's `create_model` adapts its first layer and its head.

    Args:
        name: name in timm.list_models(), optionally with a tag of its weights (`resnet50.a1_in1k`), or a name in
            the Hugging Face hub (`hf-hub:owner/name`).
        num_classes: number of logits.
        in_channels: channels of an image.
        library_name: timm's name if `name` is a different name in Convoy.
        stem: see `torchvision_model`.
        pretrained: load timm's weights; the head is new if the number of classes differs.
        **arguments: arguments of the model (drop_path_rate, img_size, …).

    Raises:
        UserError: if there is no such model, it rejects an argument, or the weights can't be loaded.
    """
    import timm

    from convoy.models.stems import make_stem_small

    # timm reads these files, in some versions with pickle, which can execute code.
    read_by_timm = [key for key in ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay") if key in arguments]
    faults = stem_faults(stem) + [
        Fault(f"model.{key}", "is not passed to timm", "write model.pretrained=<file of weights>", str(arguments[key]))
        for key in read_by_timm
    ]
    if faults:
        raise UserError(*faults)
    name = library_name or name
    is_elsewhere = name.partition(":")[0] in ("hf-hub", "hf_hub", "local-dir")
    if not is_elsewhere and not timm.is_model(name.partition(".")[0]):
        remedy = did_you_mean(name, timm.list_models(), "timm.list_models('*word*') finds them")
        raise UserError(Fault("model.name", "timm has no such model", remedy, name))

    def create(pretrained: bool) -> nn.Module:
        network: nn.Module = timm.create_model(
            name, pretrained=pretrained, num_classes=num_classes, in_chans=in_channels, **arguments
        )
        fresh = make_stem_small(network, name) if stem == "small" else ()
        if pretrained and fresh:
            log.warning("timm's %s: %s not loaded; they keep their initial values", name, ", ".join(fresh))
        return network

    try:
        network = create(pretrained=False)
    except UserError:
        raise
    except Exception as error:  # constructors raise various types for wrong arguments
        raise UserError(refusal(f"timm's {name}", error, arguments)) from error
    return with_weights(lambda: create(pretrained=True), f"timm's {name}", takes_file=True) if pretrained else network


def with_weights(create: Callable[[], nn.Module], described: str, *, takes_file: bool = False) -> nn.Module:
    """Return a network with weights of the Hugging Face Hub; an exception is reported as one of the weights.

    Args:
        create: function that builds the network, and works without the weights.
        described: owner of the weights, for errors.
        takes_file: whether `model.pretrained` can name a file of these weights instead.

    Raises:
        UserError: if the weights can't be loaded.
    """
    from huggingface_hub import constants

    try:
        return create()
    except Exception as error:  # of the hub, the connection or the file
        give = "download them and give the file, model.pretrained=<file>; " if takes_file else ""
        remedy = (
            f"{give}build the network once on a machine with a network connection, which keeps them in "
            f"{constants.HF_HUB_CACHE}, and copy this folder; or omit model.pretrained"
        )
        rule = f"the weights of {described} can't be loaded ({one_line(error)})"
        raise UserError(Fault("model.pretrained", rule, remedy, "true")) from error


def _options_of(name: str, *, pretrained: bool, in_channels: int) -> dict[str, Any]:
    """Return the defaults of GoogLeNet and Inception v3: no auxiliary classifiers, and torchvision's input scaling."""
    if name not in ("googlenet", "inception_v3"):
        return {}
    return {
        "aux_logits": False,
        "init_weights": not pretrained,
        "transform_input": pretrained and in_channels == 3,
    }


def fit_first_convolution(network: nn.Module, in_channels: int) -> None:
    """Adapt the first convolution and its initial weights to `in_channels`, keeping the scale of its outputs."""
    from torch import nn

    from convoy.models.building.weights import fit_channels

    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    first.weight = nn.Parameter(fit_channels(first.weight.detach(), in_channels))
    first.in_channels = in_channels
