"""Segmentation networks of torchvision and segmentation-models-pytorch, by name."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.models.image_padding import cropped, padded
from convoy.models.libraries import fit_first_convolution, refusal, with_weights

DEEPEST = 32
"""Multiple of the sides that encoders halve without a rest."""


class TorchvisionSegmentation(nn.Module):
    """Segmentation network of torchvision with its modules and their names, which returns logits.

    torchvision's own returns a dictionary. In training, an auxiliary classifier's logits follow in a tuple.

    Args:
        network: network of `torchvision.models.segmentation`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.backbone = network.get_submodule("backbone")
        auxiliary = getattr(network, "aux_classifier", None)
        if auxiliary is not None:
            self.aux_classifier = auxiliary
        self.classifier = network.get_submodule("classifier")
        self.aux_logits = auxiliary is not None
        self._takes_all_maps = "low_classifier" in dict(self.classifier.named_children())
        if self._takes_all_maps:
            self.head_names = ("classifier.low_classifier", "classifier.high_classifier")

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        maps = self.backbone(images)
        logits = _resized(self.classifier(maps if self._takes_all_maps else maps["out"]), images)
        if not (self.training and self.aux_logits):
            return logits
        return logits, _resized(self.aux_classifier(maps["aux"]), images)


class EncoderDecoder(nn.Module):
    """Network of segmentation-models-pytorch with its modules and their names, for images of any size.

    Args:
        network: network of that library.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.encoder = network.get_submodule("encoder")
        self.decoder = network.get_submodule("decoder")
        self.segmentation_head = network.get_submodule("segmentation_head")

    def forward(self, images: Tensor) -> Tensor:
        return cropped(self.segmentation_head(self.decoder(self.encoder(padded(images, DEEPEST)))), images)


def torchvision_segmentation(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    aux_logits: bool = False,
    pretrained: bool = False,
    **arguments: Any,
) -> nn.Module:
    """Return a segmentation network of torchvision.

    Args:
        name: name in torchvision.models.list_models(module=torchvision.models.segmentation).
        num_classes: number of classes.
        in_channels: channels of an image.
        aux_logits: add the auxiliary classifier, which is used in training.
        pretrained: load torchvision's weights; the classifiers are new if the number of classes differs.
        **arguments: arguments of the network.

    Raises:
        UserError: if there is no such network, it rejects an argument, or the weights can't be loaded.
    """
    from torchvision import models

    from convoy.models.building.weights import load_weights, torchvision_weights

    names = models.list_models(module=models.segmentation)
    if name not in names:
        remedy = did_you_mean(name, names, f"choose from {', '.join(names)}")
        raise UserError(Fault("model.name", "torchvision has no such segmentation network", remedy, name))
    # LR-ASPP has no auxiliary classifier, and refuses the argument.
    options = {**arguments, "aux_loss": True} if aux_logits else arguments
    try:
        built = models.get_model(name, weights=None, weights_backbone=None, num_classes=num_classes, **options)
    except Exception as error:  # constructors raise various types for wrong arguments
        raise UserError(refusal(f"torchvision's {name}", error, arguments)) from error
    network = TorchvisionSegmentation(built)
    if in_channels != 3:
        fit_first_convolution(network, in_channels)
    if pretrained:
        source = f"torchvision's {name}"
        load_weights(
            network, torchvision_weights(name), num_classes=num_classes, in_channels=in_channels, source=source
        )
    return network


def segmentation_model(
    name: str,
    num_classes: int,
    in_channels: int = 3,
    encoder: str = "resnet34",
    library_name: str | None = None,
    pretrained: bool = False,
    **arguments: Any,
) -> nn.Module:
    """Return a network of segmentation-models-pytorch with an encoder of timm.

    Args:
        name: name of the architecture in that library, such as unet, deeplabv3plus, pspnet or fpn.
        num_classes: number of classes.
        in_channels: channels of an image.
        encoder: name in timm.list_models(), or an encoder that only segmentation-models-pytorch has.
        library_name: that library's name if `name` is a different name in Convoy.
        pretrained: load the encoder's weights for ImageNet.
        **arguments: arguments of the architecture (encoder_depth, decoder_channels, …).

    Raises:
        UserError: if the library is not installed, there is no such network or encoder, it rejects an argument, or the
            weights can't be loaded.
    """
    import timm

    try:
        import segmentation_models_pytorch as library
    except ImportError as error:
        rule, remedy = "needs the package segmentation-models-pytorch", "pip install 'convoy[segmentation]'"
        raise UserError(Fault("model", rule, remedy, name)) from error
    name = library_name or name
    architectures = library.MODEL_ARCHITECTURES_MAPPING
    if name not in architectures:
        remedy = did_you_mean(name, architectures, f"choose from {', '.join(architectures)}")
        rule = "segmentation-models-pytorch has no such architecture"
        raise UserError(Fault("model.name", rule, remedy, name))
    is_timms = timm.is_model(encoder.partition(".")[0])
    if not is_timms and encoder not in library.encoders.get_encoder_names():
        remedy = did_you_mean(encoder, timm.list_models(), "timm.list_models('*word*') finds them")
        raise UserError(Fault("model.encoder", "timm has no such model", remedy, encoder))

    def create(weights: str | bool | None) -> nn.Module:
        return EncoderDecoder(
            library.create_model(
                name,
                encoder_name=f"tu-{encoder}" if is_timms else encoder,
                encoder_weights=weights,
                in_channels=in_channels,
                classes=num_classes,
                **arguments,
            )
        )

    try:
        network = create(None)
    except Exception as error:  # constructors raise various types for wrong arguments
        raise UserError(refusal(f"{name} with the encoder {encoder}", error, arguments)) from error
    weights = True if is_timms else "imagenet"
    return with_weights(lambda: create(weights), f"the encoder {encoder}") if pretrained else network


def _resized(logits: Tensor, images: Tensor) -> Tensor:
    return functional.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
