"""Checks of a data config before anything is read. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from convoy.config.faults import Fault, UserError, did_you_mean
from convoy.config.schema import AugmentConfig, DataConfig
from convoy.config.targets import target_faults
from convoy.data.folders import count_classes
from convoy.data.shards.index import read_index
from convoy.data.shards.storage import S3
from convoy.data.table import read_table, setting_faults
from convoy.data.targets import CLASS_INDEX, KINDS, MULTI_HOT, VALUES

FOLDER_SOURCE = "image_folder"
SHARDS_SOURCE = "shards"
TABLE_SOURCE = "table"
DATASET_SOURCE = "dataset"
FILE_SOURCES = (FOLDER_SOURCE, TABLE_SOURCE, DATASET_SOURCE, SHARDS_SOURCE)
"""Sources whose images are read while training runs."""
NUM_CLASSES = {"digits": 10, "fashion_mnist": 10, "mnist": 10, "cifar10": 10, "cifar100": 100}
IMAGE_SIDES = {"digits": 8, "fashion_mnist": 28, "mnist": 28, "cifar10": 32, "cifar100": 32}
"""Side of the published images, in pixels."""
IMAGE_CHANNELS = {"digits": 1, "fashion_mnist": 1, "mnist": 1, "cifar10": 3, "cifar100": 3}
"""Channels of the published images; 1: gray, 3: RGB."""
_NAMES = {CLASS_INDEX: "classes", MULTI_HOT: "labels", VALUES: "values"}
TRAIN_IMAGES = {"digits": 1_797, "fashion_mnist": 60_000, "mnist": 60_000, "cifar10": 50_000, "cifar100": 50_000}
"""Published training images, including val; for digits, all images."""
SOURCES = (*NUM_CLASSES, *FILE_SOURCES)
MOST_BUFFER = 1 << 22
"""Largest value of data.shuffle_buffer, in samples."""


def check_data(data: DataConfig, *, present: bool = True) -> list[Fault]:
    """Return all faults of `data`. On disk, only data.root, its folders and index, and a table are read.

    Args:
        data: the data config.
        present: whether the data must exist; if not, only the number of classes must be known.
    """
    faults = [*_number_faults(data), *_channel_faults(data), *_augment_faults(data), *_built_faults(data)]
    if data.target not in KINDS:
        remedy = did_you_mean(data.target, KINDS, f"choose from {', '.join(KINDS)}")
        faults.append(Fault("data.target", "is not a kind of target", remedy, data.target))
    elif data.target != CLASS_INDEX and data.source not in (TABLE_SOURCE, DATASET_SOURCE):
        rule = f"data.source={data.source} has one class per image"
        faults.append(Fault("data.target", rule, f"write data.target={CLASS_INDEX}", data.target))
    if data.file is not None and data.source != TABLE_SOURCE:
        rule = f"requires data.source={TABLE_SOURCE}"
        faults.append(Fault("data.file", rule, f"write data={TABLE_SOURCE}", data.file))
    if data.source not in SOURCES:
        remedy = did_you_mean(data.source, SOURCES, f"choose from {', '.join(SOURCES)}")
        faults.append(Fault("data.source", "is not a source", remedy, data.source))
    elif data.source == FOLDER_SOURCE:
        faults += _folder_faults(data, present=present)
    elif data.source == DATASET_SOURCE:
        faults += _dataset_faults(data)
    elif data.source == TABLE_SOURCE:
        faults += _table_faults(data, present=present)
    elif data.source == SHARDS_SOURCE:
        faults += _shard_faults(data, present=present)
    else:
        faults += _memory_faults(data, present=present)
    return faults


def model_sizes(data: DataConfig) -> dict[str, int]:
    """Return the sizes that a model depends on: num_classes, in_channels and image_size (pixels).

    Raises:
        UserError: if the classes can't be counted.
    """
    return {"num_classes": num_targets(data), "in_channels": data.channels, "image_size": data.image_size}


def counted_sizes(data: DataConfig) -> dict[str, Any]:
    """Return `model_sizes`, with None for num_classes if it is not known yet."""
    return {"num_classes": data.num_classes, "in_channels": data.channels, "image_size": data.image_size}


def num_targets(data: DataConfig) -> int:
    """Return the number of classes, labels or values: data.num_classes, or if it is null, that of the source.

    Raises:
        UserError: if the classes can't be counted.
    """
    if data.num_classes is not None:
        return data.num_classes
    if data.source == FOLDER_SOURCE:
        if data.root is None:
            raise UserError(_no_root())
        return count_classes(data.root)
    if data.source == TABLE_SOURCE:
        if faults := list(setting_faults(data)):
            raise UserError(*faults)
        return len(read_table(data).targets.names)
    if data.source == DATASET_SOURCE:
        raise UserError(*_dataset_faults(data))
    if data.source == SHARDS_SOURCE:
        if data.root is None:
            raise UserError(_no_shards())
        return len(read_index(data.root).classes)
    return NUM_CLASSES[data.source]


def set_bytes(data: DataConfig) -> int:
    """Return the bytes of a set in memory, with padding and mirror images; 0 for sources that are read from disk."""
    if data.source in FILE_SOURCES:
        return 0
    augment = data.augment
    image = data.channels * (data.image_size + 2 * augment.pad_crop) ** 2
    return int(TRAIN_IMAGES[data.source] * (1 - data.val_fraction)) * image * (2 if augment.flip else 1)


def _number_faults(data: DataConfig) -> Iterator[Fault]:
    for name, least in (
        ("image_size", 1),
        ("num_classes", 2 if data.target == CLASS_INDEX else 1),
        ("eval_resize", 1),
        ("num_workers", 1),
        ("shuffle_buffer", 1),
    ):
        value = getattr(data, name)
        if isinstance(value, int) and value < least:
            yield _fault(f"data.{name}", value, f"must be at least {least}")
    if data.shuffle_buffer > MOST_BUFFER:
        yield _fault("data.shuffle_buffer", data.shuffle_buffer, f"must be at most {MOST_BUFFER}")
    if not isinstance(data.image_size, int):
        yield Fault("data.image_size", "is missing", "give the side of the network's input in pixels")
    if data.eval_resize is not None and isinstance(data.image_size, int) and 0 < data.eval_resize < data.image_size:
        yield _fault(
            "data.eval_resize",
            data.eval_resize,
            f"must not be less than data.image_size={data.image_size}, the size of the central crop",
        )
    if not 0 < data.val_fraction < 1:
        yield _fault("data.val_fraction", data.val_fraction, "must be between 0 and 1", "0.1 is usual")
    if not 0 <= data.test_fraction < 1:
        yield _fault("data.test_fraction", data.test_fraction, "must be at least 0 and less than 1", "0.1 is usual")
    elif data.test_fraction and data.source in (*NUM_CLASSES, SHARDS_SOURCE):
        rule = "applies only to image folders, tables and data sets of the user"
        yield _fault("data.test_fraction", data.test_fraction, rule, "write data.test_fraction=0")
    for name, choices in (("fit", ("resize", "pad")), ("on_bad_image", ("error", "skip"))):
        value = getattr(data, name)
        if value not in choices:
            yield _fault(f"data.{name}", value, f"must be {' or '.join(choices)}", did_you_mean(str(value), choices))


def _channel_faults(data: DataConfig) -> Iterator[Fault]:
    if data.channels not in (1, 3):
        yield _fault("data.channels", data.channels, "must be 1 (gray) or 3 (RGB)")
        return
    for name in ("mean", "std"):
        values = getattr(data, name)
        if isinstance(values, str) or len(values) not in (1, data.channels):
            rule = "must have one number, or one per channel"
            yield _fault(f"data.{name}", values, rule, f"data.channels is {data.channels}")
        elif name == "mean" and not all(0 <= value <= 1 for value in values):
            yield _fault("data.mean", values, "must be of pixel values in 0 to 1", "divide by 255")
        elif name == "std" and not all(0 < value <= 1 for value in values):
            yield _fault("data.std", values, "must be above 0, of pixel values in 0 to 1", "divide by 255")


def _augment_faults(data: DataConfig) -> Iterator[Fault]:
    augment: AugmentConfig = data.augment
    size = data.image_size if isinstance(data.image_size, int) else None
    for name in ("pad_crop", "cutout"):
        value = getattr(augment, name)
        if value < 0:
            yield _fault(f"data.augment.{name}", value, "must be at least 0", "0 turns it off")
        elif size is not None and value >= size:
            yield _fault(f"data.augment.{name}", value, f"must be less than data.image_size={size}")
    crop = augment.random_resized_crop
    if crop is None:
        return
    if len(crop) != 2 or not 0 < crop[0] <= crop[1] <= 1:
        yield _fault(
            "data.augment.random_resized_crop",
            crop,
            "must be [smallest, largest] with 0 < smallest <= largest <= 1",
            "[0.08,1.0] is usual",
        )
    if data.source in NUM_CLASSES:
        yield _fault(
            "data.augment.random_resized_crop",
            crop,
            f"applies only to image folders and shards, not to data.source={data.source}",
            "use data.augment.pad_crop",
        )
    if augment.pad_crop > 0:
        yield _fault(
            "data.augment.pad_crop",
            augment.pad_crop,
            "can't be combined with random_resized_crop",
            "set one of them",
        )


def _memory_faults(data: DataConfig, *, present: bool) -> Iterator[Fault]:
    classes, side = NUM_CLASSES[data.source], IMAGE_SIDES[data.source]
    if data.num_classes not in (None, classes):
        rule = f"{data.source} has {classes} classes"
        yield _fault("data.num_classes", data.num_classes, rule, "write data.num_classes=null")
    if data.fit == "pad" and isinstance(data.image_size, int) and data.image_size < side:
        yield _fault(
            "data.image_size",
            data.image_size,
            f"is less than the {side} pixels of {data.source}, and data.fit=pad never makes an image smaller",
            "use data.fit=resize",
        )
    if data.eval_resize is not None:
        rule = "applies only to image folders and shards"
        yield _fault("data.eval_resize", data.eval_resize, rule, "use data.image_size")
    if present and data.root is not None and not _is_folder(data.root):
        yield _fault("data.root", data.root, "is not a folder", "data.root=null searches the default folders")


def _folder_faults(data: DataConfig, *, present: bool) -> Iterator[Fault]:
    if data.fit == "pad":
        yield _fault("data.fit", data.fit, "is for sets whose images have one size", "use data.fit=resize")
    if not present and not _is_folder(data.root):
        if data.num_classes is None:
            where = "without data.root" if data.root is None else f"without the folder {data.root}"
            yield Fault("data.num_classes", f"can't be counted {where}", "write data.num_classes=…", "null")
        return
    if data.root is None:
        yield _no_root()
        return
    try:
        classes = count_classes(data.root)
    except UserError as error:
        yield from error.faults
        return
    if classes < 2:
        yield _fault("data.root", data.root, "has one class folder", "a classifier needs two or more")
    elif data.num_classes not in (None, classes):
        yield _fault(
            "data.num_classes",
            data.num_classes,
            f"{data.root} has {classes} class folders",
            "write data.num_classes=null to count them",
        )


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


def _dataset_faults(data: DataConfig) -> Iterator[Fault]:
    if data.fit == "pad":
        yield _fault("data.fit", data.fit, "is for sets whose images have one size", "use data.fit=resize")
    if data.train is None:
        remedy = "write train: {_target_: module.Class} in the option's file, see conf/data/dataset.yaml"
        yield Fault("data.train", "is missing", remedy, "null")
    if data.num_classes is None:
        rule = "can't be counted before the data set is built"
        yield Fault("data.num_classes", rule, f"give the number of {_NAMES.get(data.target, 'classes')}", "null")


def _table_faults(data: DataConfig, *, present: bool) -> Iterator[Fault]:
    if data.fit == "pad":
        yield _fault("data.fit", data.fit, "is for sets whose images have one size", "use data.fit=resize")
    if not present and (data.file is None or not Path(data.file).expanduser().is_file()):
        if data.num_classes is None:
            place = "without data.file" if data.file is None else f"without the file {data.file}"
            yield Fault("data.num_classes", f"can't be counted {place}", "write data.num_classes=…", "null")
        return
    if faults := list(setting_faults(data)):
        yield from faults
        return
    try:
        names = len(read_table(data).targets.names)
    except UserError as error:
        yield from error.faults
        return
    if data.num_classes not in (None, names):
        rule = f"{data.file} has {names} {_NAMES[data.target]}"
        yield _fault("data.num_classes", data.num_classes, rule, "write data.num_classes=null to count them")


def _shard_faults(data: DataConfig, *, present: bool) -> Iterator[Fault]:
    if data.fit == "pad":
        yield _fault("data.fit", data.fit, "is for sets whose images have one size", "use data.fit=resize")
    is_at_hand = data.root is not None and (_is_folder(data.root) or (data.num_classes is None and _is_address(data)))
    if not present and not is_at_hand:
        if data.num_classes is None:
            where = "without data.root" if data.root is None else f"without the folder {data.root}"
            yield Fault("data.num_classes", f"can't be counted {where}", "write data.num_classes=…", "null")
        return
    if data.root is None:
        yield _no_shards()
        return
    try:
        classes = len(read_index(data.root).classes)
    except UserError as error:
        yield from error.faults
        return
    if data.num_classes not in (None, classes):
        rule = f"{data.root} was packed with {classes} classes"
        yield _fault("data.num_classes", data.num_classes, rule, "write data.num_classes=null")


def _is_address(data: DataConfig) -> bool:
    return data.root is not None and data.root.startswith(S3)


def _is_folder(root: str | None) -> bool:
    return root is not None and Path(root).expanduser().is_dir()


def _no_root() -> Fault:
    return Fault(
        "data.root",
        "is missing",
        "give the folder with train/ and val/, each with one folder of images per class",
        "null",
    )


def _no_shards() -> Fault:
    return Fault("data.root", "is missing", f"give the folder that convoy pack wrote, or {S3}bucket/prefix", "null")


def _fault(key: str, value: Any, rule: str, remedy: str = "") -> Fault:
    """Return a fault with `value` as it is written on the command line."""
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return Fault(key, rule, remedy, f"[{','.join(map(str, value))}]" if is_list else str(value))
