"""Check of folders of images that a network restores. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterator

from convoy.config.data_schema import DataConfig
from convoy.config.degradation_schema import DegradationConfig
from convoy.config.faults import Fault, UserError, fault_of
from convoy.config.image_size import sides_or_none
from convoy.data.checks.source_check import is_folder, padding_faults, restored_view_faults, scale_faults
from convoy.data.degradation.restoration_folders import CHANNEL_NAMES, find_folders, num_channels

MOST_QUALITY = 95


def count_targets(data: DataConfig) -> int:
    """See `SourceCheck`."""
    return num_channels(data)


def faults(data: DataConfig, *, present: bool) -> Iterator[Fault]:
    """See `SourceCheck`."""
    yield from padding_faults(data)
    yield from _degradation_faults(data)
    if data.channels not in CHANNEL_NAMES:
        yield fault_of("data.channels", data.channels, "must be 1 (gray) or 3 (RGB)")
    elif data.num_classes not in (None, num_channels(data)):
        rule = f"is the number of channels of the restored images, {num_channels(data)}"
        yield fault_of("data.num_classes", data.num_classes, rule, "write data.num_classes=null")
    yield from restored_view_faults(data)
    if data.patches_per_image < 1:
        yield fault_of("data.patches_per_image", data.patches_per_image, "must be at least 1")
    if present or is_folder(data.root):
        try:
            find_folders(data)
        except UserError as error:
            yield from error.faults


def _degradation_faults(data: DataConfig) -> Iterator[Fault]:
    degradation = data.degradation
    if degradation == DegradationConfig():
        remedy = "set data.degradation.scale, blur, noise, jpeg or gray"
        yield Fault("data.degradation", "leaves the images as they are", remedy)
    for name, most in (("blur", 50.0), ("noise", 255.0)):
        if not 0 <= (value := getattr(degradation, name)) <= most:
            yield fault_of(f"data.degradation.{name}", value, f"must be 0 to {most:g}", "0 turns it off")
    if degradation.jpeg is not None and not 1 <= degradation.jpeg <= MOST_QUALITY:
        rule = f"is a quality from 1 to {MOST_QUALITY}"
        yield fault_of("data.degradation.jpeg", degradation.jpeg, rule, "null turns it off")
    if scale := list(scale_faults(data)):
        yield from scale
        return
    if degradation.gray and data.channels != 1:
        rule = "is for networks that receive gray images"
        yield fault_of("data.degradation.gray", True, rule, "write data.channels=1")
    sides = sides_or_none(data.image_size)
    if degradation.enlarge and sides and any(side % degradation.scale for side in sides):
        rule = f"must be a multiple of data.degradation.scale={degradation.scale}, since images are reduced by it"
        larger = [-(-side // degradation.scale) * degradation.scale for side in sides]
        text = str(larger[0]) if isinstance(sides.value, int) else str(larger).replace(" ", "")
        yield fault_of("data.image_size", sides.text, rule, f"write data.image_size={text}")
