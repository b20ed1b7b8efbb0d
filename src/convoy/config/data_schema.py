"""Typed config of a data set: the `data` group."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from convoy.config.augment_schema import AugmentConfig
from convoy.config.degradation_schema import DegradationConfig


@dataclass
class DataConfig:
    """Data set: source, splits, image format, targets and augmentation."""

    name: str = MISSING
    source: str = MISSING
    """Reader of the data: digits, fashion_mnist, mnist, cifar10, cifar100 (sets in memory), image_folder, table,
    segmentation_folder, coco_keypoints, restoration_folder, dataset, torchvision, huggingface or shards."""
    root: str | None = None
    """Folder of the data; for shards also s3://bucket/prefix. null: default folders of the source (see the option's
    file)."""
    file: str | None = None
    """CSV, TSV, JSON lines or Parquet file with one row per image. Tables only, like the next five; image_column,
    target_column and group_column also for data sets of Hugging Face."""
    image_column: str | None = None
    """Column of the image paths, relative to data.root, or to the folder of data.file if data.root is null. In Parquet
    also of encoded images: bytes, or {bytes, path} as Hugging Face writes them."""
    target_column: Any = None
    """Column of the target, or several as [a,b]; data.target determines the format of the cells. For key points, names
    of points with the columns <point>_x and <point>_y; null: all of them."""
    split_column: str | None = None
    """Column with train, val or test; null: val and test are held out of all rows."""
    group_column: str | None = None
    """Column whose rows of equal value (a patient, a scene) stay together when val and test are held out."""
    label_separator: str = "|"
    """Separator of the labels in one cell, for data.target=multi_hot with one column."""
    point_pairs: list[Any] | None = None
    """Pairs of key points of the left and the right side, such as [[left_eye,right_eye]], which a flip exchanges; null:
    the points whose names differ by the words left and right. Only for data.target=keypoints."""
    split_files: str | None = None
    """Folder of train.txt, and optionally val.txt and test.txt, relative to data.root: one path below data.root per
    line, optionally followed by its class. null: data.root itself, if it has a train.txt. Image folders only; for
    segmentation folders, one name of an image per line, without suffix, and null: no lists."""
    image_folder: str = "images"
    """Folder of the images below data.root, or below the folder of each split. Segmentation folders only, like the next
    three."""
    mask_folder: str = "masks"
    """Folder of the masks. A mask has the name of its image."""
    image_suffix: str = ""
    """Text at the end of the names of images that the names of masks don't have, such as _leftImg8bit."""
    mask_suffix: str = ""
    """Text after the image's name in the name of a mask, such as _mask."""
    classes: Any = None
    """Names of the classes in the order of the values in the masks, a mapping of names to values, or a table with the
    columns name and, for color masks, red, green and blue. A class named void, ignore or unlabeled is not counted.
    Segmentation folders and data.source=dataset, like the next one."""
    ignored_values: list[int] = field(default_factory=list)
    """Further values of masks whose pixels are not counted; 255 never is."""
    splits: list[str] | None = None
    """Splits of a segmentation folder that are read: [train,val] if the masks of test are not public. null: all."""
    subset: str | None = None
    """Name of the configuration of a data set on the Hub that has several. Only for data.source=huggingface."""
    streaming: bool = False
    """Whether images are read from Parquet files while training runs, without converting or downloading the whole set
    before. Only for data.source=huggingface."""
    download: bool = True
    """Whether torchvision may download missing files."""
    arguments: dict[str, Any] | None = None
    """Further arguments of the class of torchvision, such as {partition: 2}. Only for data.source=torchvision."""
    target: str = "class_index"
    """Kind of the targets: class_index (one class per image), multi_hot (any number of labels), values (numbers), mask
    (a class per pixel), keypoints or image (docs/tasks.md)."""
    num_classes: int | None = None
    """Number of classes, labels, values, points or channels of the targets. null: counted from class folders, the
    table, or the index of shards."""
    channels: int = 3
    """1 (gray) or 3 (RGB), to which images are converted, or the number of channels of TIFF files and arrays (.npy)."""
    value_range: list[float] | None = None
    """[smallest, largest] value of images of more than 8 bits, which become 0 and 255; others are clipped. null: the
    range of the type (docs/data.md)."""
    image_size: Any = MISSING
    """Size of the network's input in pixels: the side of a square, or [height,width]."""
    background: Any = None
    """Color on which images with an alpha channel or a transparent color are drawn: white, black or [r,g,b], each 0 to
    255. null: transparency is ignored, and transparent pixels have their stored colors."""
    fit: str = "resize"
    """Adjustment of sets in memory to image_size: resize (bilinear) or pad (zeros around the image)."""
    eval_resize: int | None = None
    """Shorter side in pixels before the center crop of val and test; null: image_size. For [height,width], the image is
    resized to cover an area of that shape with this shorter side. Not for sets in memory."""
    eval_view: str = "crop"
    """Part of an image in val and test: crop (its center, see eval_resize), fit (all of it, as large as it fits into
    image_size, with zeros around it) or whole (all of it in its own size, one image at a time, for masks and images).
    Targets with positions in the image need fit or whole. Not for sets in memory."""
    mean: list[float] = MISSING
    """Mean of pixel values in 0..1: one number for all channels, or one per channel."""
    std: list[float] = MISSING
    """Standard deviation of pixel values in 0..1, like mean."""
    val_fraction: float = 0.1
    """Share of the training images held out for val if the data has no val split: stratified by class, with a constant
    seed, so that all runs hold out the same images."""
    test_fraction: float = 0.0
    """Share of the images held out for test, before val, if the data has no test split. For image folders, tables and
    data sets of the user."""
    folds: int | None = None
    """Number of folds of cross-validation: data.fold is val, the others are train, stratified by class. For image
    folders, tables and data sets of Hugging Face without a val split; data.test_fraction is held out before."""
    fold: int | None = None
    """Fold that is val, from 0 to data.folds - 1."""
    on_bad_image: str = "error"
    """Reaction to an image that can't be decoded: error, or skip (omit the image and count it). Not for sets in
    memory."""
    num_workers: int | None = None
    """Decoding threads per process; null: number of CPU cores available to the process. Not for sets in memory."""
    sampler: str = "none"
    """Choice of the training images of an epoch: none (each once), balanced (with replacement, all classes equally
    often) or sqrt (with replacement, a class in proportion to the square root of its size). Not for shards or with
    data.streaming, like the next two."""
    repeats: int = 1
    """Number of copies of an image in a batch, with different augmentation; an epoch then has a part of the images."""
    max_per_class: int | None = None
    """Largest number of training images per class, the same ones in every run; null: all."""
    shuffle_buffer: int = 8192
    """Size of the shuffle buffer in samples per rank; 1: read in sequence. Only for shards, and with data.streaming."""
    patches_per_image: int = 1
    """Number of times that an epoch has each training image, as another crop. Only for restoration_folder."""
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    transforms: list[Any] = field(default_factory=list)
    """Additional transforms of training images, a list of `_target_`s such as torchvision.transforms.v2.ColorJitter.
    The input is a uint8 tensor [C, H, W] after random_resized_crop and before pad_crop and normalization."""
    train: dict[str, Any] | None = None
    """Map-style data set with a `_target_` that returns (image, target). Only for data.source=dataset, like val and
    test."""
    val: dict[str, Any] | None = None
    """null: val_fraction of train is held out."""
    test: dict[str, Any] | None = None
    """null: test_fraction of train is held out."""
