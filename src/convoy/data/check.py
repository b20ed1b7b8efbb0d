"""Checks of a data config before anything is read. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, cast

from convoy.config.data_schema import DataConfig
from convoy.config.faults import Fault, did_you_mean, fault_of
from convoy.config.image_size import LARGEST_SIDE, remedy_for, sides_of, sides_or_none
from convoy.config.targets import target_faults
from convoy.data.checks.augmentation import augment_faults
from convoy.data.checks.class_balance import sampling_faults
from convoy.data.checks.folds import fold_faults
from convoy.data.checks.source_check import SourceCheck
from convoy.data.images.pixel_format import COLORS, PICTURE_CHANNELS, color_of
from convoy.data.source_names import (
    COCO_KEYPOINTS_SOURCE,
    CROP_VIEW,
    DATASET_SOURCE,
    EVAL_VIEWS,
    FILE_SOURCES,
    FOLDER_SOURCE,
    HUGGINGFACE_SOURCE,
    NUM_CLASSES,
    RESTORATION_SOURCE,
    SEGMENTATION_SOURCE,
    SHARDS_SOURCE,
    SOURCES,
    TABLE_SOURCE,
    TORCHVISION_SOURCE,
    TRAIN_IMAGES,
    WHOLE_VIEW,
)
from convoy.data.targets import CLASS_INDEX, IMAGE, KEYPOINTS, KINDS, LOCATED_KINDS, MASK, MULTI_HOT, VALUES

_SOURCES_OF_KEY = {
    "file": (TABLE_SOURCE, COCO_KEYPOINTS_SOURCE),
    "image_column": (TABLE_SOURCE, HUGGINGFACE_SOURCE),
    "target_column": (TABLE_SOURCE, HUGGINGFACE_SOURCE),
    "split_column": (TABLE_SOURCE,),
    "group_column": (TABLE_SOURCE, HUGGINGFACE_SOURCE),
    "split_files": (FOLDER_SOURCE, SEGMENTATION_SOURCE),
    "image_suffix": (SEGMENTATION_SOURCE,),
    "mask_suffix": (SEGMENTATION_SOURCE,),
    "classes": (SEGMENTATION_SOURCE, DATASET_SOURCE),
    "ignored_values": (SEGMENTATION_SOURCE, DATASET_SOURCE),
    "splits": (SEGMENTATION_SOURCE,),
    "image_folder": (SEGMENTATION_SOURCE,),
    "mask_folder": (SEGMENTATION_SOURCE,),
    "point_pairs": (TABLE_SOURCE, COCO_KEYPOINTS_SOURCE, DATASET_SOURCE),
    "patches_per_image": (RESTORATION_SOURCE,),
    "degradation": (RESTORATION_SOURCE, DATASET_SOURCE),
    "arguments": (TORCHVISION_SOURCE,),
    "subset": (HUGGINGFACE_SOURCE,),
    "streaming": (HUGGINGFACE_SOURCE,),
}
"""Sources that read a key that others would ignore."""
_OPTIONS = {RESTORATION_SOURCE: "restoration"}
"""Options of sources with another name."""
_KINDS = {
    HUGGINGFACE_SOURCE: (CLASS_INDEX, MULTI_HOT, VALUES),
    DATASET_SOURCE: KINDS,
    TABLE_SOURCE: (CLASS_INDEX, MULTI_HOT, VALUES, KEYPOINTS),
    SEGMENTATION_SOURCE: (MASK,),
    RESTORATION_SOURCE: (IMAGE,),
    COCO_KEYPOINTS_SOURCE: (KEYPOINTS,),
}
"""Kinds of target of the sources whose images have not simply one class."""
MOST_CHANNELS = 1024
MOST_BUFFER = 1 << 22
"""Largest value of data.shuffle_buffer, in samples."""


def check_data(data: DataConfig, *, present: bool = True) -> list[Fault]:
    """Return all faults of `data`. On disk, only data.root, its folders and index, and a table are read.

    Args:
        data: the data config.
        present: whether the data must exist; if not, only the number of classes must be known.
    """
    parts = (_size_faults, _number_faults, _channel_faults, _background_faults, augment_faults, _built_faults)
    faults = [fault for part in parts for fault in part(data)]
    if data.target not in KINDS:
        remedy = did_you_mean(data.target, KINDS, f"choose from {', '.join(KINDS)}")
        faults.append(Fault("data.target", "is not a kind of target", remedy, data.target))
    elif data.source in SOURCES and data.target not in _kinds_of(data.source):
        kinds = _kinds_of(data.source)
        holds = "one class per image" if kinds == (CLASS_INDEX,) else f"targets of the kind {' or '.join(kinds)}"
        rule = f"data.source={data.source} has {holds}"
        faults.append(Fault("data.target", rule, f"write data.target={kinds[0]}", data.target))
    usual = DataConfig()
    for name, sources in _SOURCES_OF_KEY.items():
        if (value := getattr(data, name)) and value != getattr(usual, name) and data.source not in sources:
            rule = f"requires data.source={' or '.join(sources)}"
            shown = value if isinstance(value, str | int | list) else ""
            faults.append(fault_of(f"data.{name}", shown, rule, f"write data={_OPTIONS.get(sources[0], sources[0])}"))
    faults += fold_faults(data)
    faults += sampling_faults(data)
    if data.source not in SOURCES:
        remedy = did_you_mean(data.source, SOURCES, f"choose from {', '.join(SOURCES)}")
        faults.append(Fault("data.source", "is not a source", remedy, data.source))
    else:
        faults += _check_of(data.source).faults(data, present=present)
    return faults


def _check_of(source: str) -> SourceCheck:
    """Return the module that checks the settings of a source; the others are not imported."""
    return cast(SourceCheck, import_module(f"convoy.data.checks.{'memory' if source in NUM_CLASSES else source}"))


def _kinds_of(source: str) -> tuple[str, ...]:
    return _KINDS.get(source, (CLASS_INDEX,))


def counted_sizes(data: DataConfig) -> dict[str, Any]:
    """Return the sizes that a network depends on, as far as they follow from the config of the data.

    num_classes is None if it is not known yet, or depends on the task: key points have one or two outputs.
    """
    return network_sizes(data, None if data.target == KEYPOINTS else data.num_classes)


def network_sizes(data: DataConfig, num_outputs: int | None) -> dict[str, Any]:
    """Return the sizes that a network depends on: num_classes, in_channels and image_size.

    Args:
        data: the data config. image_size is the side of a square in pixels, or (height, width).
        num_outputs: num_classes of the network.
    """
    return {"num_classes": num_outputs, "in_channels": data.channels, "image_size": sides_of(data.image_size).value}


def num_targets(data: DataConfig) -> int:
    """Return the number of classes, labels or values: data.num_classes, or if it is null, that of the source.

    Raises:
        UserError: if the classes can't be counted.
    """
    if data.num_classes is not None:
        return data.num_classes
    return _check_of(data.source).count_targets(data)


def set_bytes(data: DataConfig) -> int:
    """Return the bytes of a set in memory, with padding and mirror images; 0 for sources that are read from disk."""
    if data.source in FILE_SOURCES:
        return 0
    augment = data.augment
    height, width = (side + 2 * augment.pad_crop for side in sides_of(data.image_size))
    image = data.channels * height * width
    return int(TRAIN_IMAGES[data.source] * (1 - data.val_fraction)) * image * (2 if augment.flip else 1)


def _number_faults(data: DataConfig) -> Iterator[Fault]:
    for name, least in (
        ("num_classes", 2 if data.target in (CLASS_INDEX, MASK) else 1),
        ("eval_resize", 1),
        ("num_workers", 1),
        ("shuffle_buffer", 1),
    ):
        value = getattr(data, name)
        if isinstance(value, int) and value < least:
            yield fault_of(f"data.{name}", value, f"must be at least {least}")
    if data.shuffle_buffer > MOST_BUFFER:
        yield fault_of("data.shuffle_buffer", data.shuffle_buffer, f"must be at most {MOST_BUFFER}")
    if not 0 < data.val_fraction < 1:
        yield fault_of("data.val_fraction", data.val_fraction, "must be between 0 and 1", "0.1 is usual")
    if not 0 <= data.test_fraction < 1:
        yield fault_of("data.test_fraction", data.test_fraction, "must be at least 0 and less than 1", "0.1 is usual")
    elif data.test_fraction and data.source in (*NUM_CLASSES, SHARDS_SOURCE):
        rule = "applies only to image folders, tables and data sets of the user"
        yield fault_of("data.test_fraction", data.test_fraction, rule, "write data.test_fraction=0")
    for name, choices in (("fit", ("resize", "pad")), ("on_bad_image", ("error", "skip")), ("eval_view", EVAL_VIEWS)):
        value = getattr(data, name)
        if value not in choices:
            yield fault_of(f"data.{name}", value, f"must be {' or '.join(choices)}", did_you_mean(str(value), choices))
    if data.eval_view != CROP_VIEW and data.source in NUM_CLASSES:
        rule = "applies only to images that are read from files"
        yield fault_of("data.eval_view", data.eval_view, rule, "write data.eval_view=crop")
    elif data.eval_view == WHOLE_VIEW and data.target not in (MASK, IMAGE):
        rule = f"is for masks and images as targets, and data.target is {data.target}"
        yield fault_of("data.eval_view", data.eval_view, rule, "write data.eval_view=fit to show whole images")
    elif data.eval_view == CROP_VIEW and data.target in LOCATED_KINDS:
        rule = f"would leave out a part of the targets of the kind {data.target}"
        yield fault_of("data.eval_view", data.eval_view, rule, "write data.eval_view=fit")


def _size_faults(data: DataConfig) -> Iterator[Fault]:
    if data.image_size in ("???", None):
        remedy = "give the side of the network's input in pixels, or [height,width]"
        yield Fault("data.image_size", "is missing", remedy)
        return
    sides = sides_or_none(data.image_size)
    if sides is None:
        rule = "must be a whole number of pixels, or [height,width]"
        yield fault_of("data.image_size", data.image_size, rule, remedy_for(data.image_size))
    elif sides.shorter < 1 or max(sides) > LARGEST_SIDE:
        rule = "must be at least 1" if sides.shorter < 1 else f"must be at most {LARGEST_SIDE}"
        yield fault_of("data.image_size", data.image_size, rule)
    elif data.eval_resize is not None and 0 < data.eval_resize < sides.shorter:
        rule = f"must not be less than data.image_size={sides.text}, the size of the central crop"
        if not isinstance(sides.value, int):
            rule = f"must not be less than {sides.shorter}, the shorter side of data.image_size={sides.text}"
        yield fault_of("data.eval_resize", data.eval_resize, rule)


def _background_faults(data: DataConfig) -> Iterator[Fault]:
    try:
        color_of(data.background)
    except ValueError:
        rule = "must be white, black or [red,green,blue], each a whole number from 0 to 255"
        near = did_you_mean(str(data.background), COLORS, "[255,255,255] is white")
        yield fault_of("data.background", data.background, rule, near)


def _channel_faults(data: DataConfig) -> Iterator[Fault]:
    if not 1 <= data.channels <= MOST_CHANNELS:
        yield fault_of(
            "data.channels", data.channels, f"must be 1 (gray), 3 (RGB) or another number up to {MOST_CHANNELS}"
        )
        return
    if data.channels not in PICTURE_CHANNELS and data.source in (*NUM_CLASSES, TORCHVISION_SOURCE):
        rule = f"{data.name} has images of 1 (gray) or 3 (RGB) channels"
        yield fault_of("data.channels", data.channels, rule, "write 1 or 3")
    limits = data.value_range
    if limits is not None and (len(limits) != 2 or limits[0] >= limits[1]):
        rule = "must be [smallest, largest] with smallest < largest"
        yield fault_of("data.value_range", limits, rule, "such as [0,10000]")
    for name in ("mean", "std"):
        values = getattr(data, name)
        if isinstance(values, str) or len(values) not in (1, data.channels):
            rule = "must have one number, or one per channel"
            yield fault_of(f"data.{name}", values, rule, f"data.channels is {data.channels}")
        elif name == "mean" and not all(0 <= value <= 1 for value in values):
            yield fault_of("data.mean", values, "must be of pixel values in 0 to 1", "divide by 255")
        elif name == "std" and not all(0 < value <= 1 for value in values):
            yield fault_of("data.std", values, "must be above 0, of pixel values in 0 to 1", "divide by 255")


def _built_faults(data: DataConfig) -> Iterator[Fault]:
    """Yield the faults of the targets of data sets and transforms, which are not imported."""
    for index, node in enumerate(data.transforms):
        yield from _node_faults(f"data.transforms[{index}]", node)
    for split in ("train", "val", "test"):
        node = getattr(data, split)
        if node is None:
            continue
        if data.source == DATASET_SOURCE:
            yield from _node_faults(f"data.{split}", node)
        else:
            rule = f"requires data.source={DATASET_SOURCE}"
            yield Fault(f"data.{split}", rule, "begin the option's file with defaults: [dataset]")


def _node_faults(key: str, node: Any) -> list[Fault]:
    if not isinstance(node, Mapping) or "_target_" not in node:
        return [Fault(key, "has no _target_", "write {_target_: module.Class, …}", str(node))]
    return target_faults(key, node)
