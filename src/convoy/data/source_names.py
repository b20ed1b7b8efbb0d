"""Names of the sources of images, and facts about the published sets. Imports neither torch nor NumPy."""

from __future__ import annotations

FOLDER_SOURCE = "image_folder"
SHARDS_SOURCE = "shards"
TABLE_SOURCE = "table"
DATASET_SOURCE = "dataset"
TORCHVISION_SOURCE = "torchvision"
HUGGINGFACE_SOURCE = "huggingface"
COCO_KEYPOINTS_SOURCE = "coco_keypoints"
SEGMENTATION_SOURCE = "segmentation_folder"
RESTORATION_SOURCE = "restoration_folder"
FILE_SOURCES = (
    *(FOLDER_SOURCE, TABLE_SOURCE, SEGMENTATION_SOURCE, RESTORATION_SOURCE, COCO_KEYPOINTS_SOURCE),
    *(DATASET_SOURCE, TORCHVISION_SOURCE, HUGGINGFACE_SOURCE, SHARDS_SOURCE),
)
"""Sources whose images are read while training runs."""
LISTED_SOURCES = (
    *(FOLDER_SOURCE, TABLE_SOURCE, HUGGINGFACE_SOURCE),
    *(SEGMENTATION_SOURCE, RESTORATION_SOURCE, COCO_KEYPOINTS_SOURCE),
)
"""Sources whose images and targets are listed before training, so that they can be divided into folds."""
NUM_CLASSES = {"digits": 10, "fashion_mnist": 10, "mnist": 10, "cifar10": 10, "cifar100": 100}
IMAGE_SIDES = {"digits": 8, "fashion_mnist": 28, "mnist": 28, "cifar10": 32, "cifar100": 32}
"""Side of the published images, in pixels."""
IMAGE_CHANNELS = {"digits": 1, "fashion_mnist": 1, "mnist": 1, "cifar10": 3, "cifar100": 3}
"""Channels of the published images; 1: gray, 3: RGB."""
TRAIN_IMAGES = {"digits": 1_797, "fashion_mnist": 60_000, "mnist": 60_000, "cifar10": 50_000, "cifar100": 50_000}
"""Published training images, including val; for digits, all images."""
SOURCES = (*NUM_CLASSES, *FILE_SOURCES)

CROP_VIEW = "crop"
FIT_VIEW = "fit"
WHOLE_VIEW = "whole"
EVAL_VIEWS = (CROP_VIEW, FIT_VIEW, WHOLE_VIEW)
"""Values of data.eval_view: what val and test see of an image."""
