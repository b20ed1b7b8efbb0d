"""MNIST and Fashion-MNIST: four files in the idx format.

The format (http://yann.lecun.com/exdb/mnist, "File formats"): two zero bytes, the element type (8: unsigned
byte), the number of dimensions, the size of each as a big-endian 32-bit integer, then the elements, the last
dimension fastest.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from convoy.config.data_schema import DataConfig
from convoy.data.sources.file_locations import FileLocations, broken_file, locate
from convoy.data.sources.image_set import ImageSet, LabelledImages

SIDE = 28
NUM_CLASSES = 10
_MOST_BYTES = 64 * 2**20
"""Memory that is allocated at once for a file; the largest, 60,000 images, needs 45 MiB."""

_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

MNIST = FileLocations("MNIST", _FILES, (".", "MNIST/raw", "raw"), "MNIST", compressed=True)
FASHION_MNIST = FileLocations(
    "Fashion-MNIST",
    _FILES,
    (".", "FashionMNIST/raw", "raw"),
    "FashionMNIST",
    compressed=True,
    system=Path("/usr/share/datasets/fashion-mnist"),
    hint=", or install Debian's package dataset-fashion-mnist",
)

# Xiao, Rasul, Vollgraf 2017: "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
# Algorithms", table 2.
_GARMENTS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def read_mnist(data: DataConfig) -> ImageSet:
    """Read 60,000 training and 10,000 test images of digits, [1, 28, 28]."""
    return _read(MNIST, tuple(str(digit) for digit in range(10)), data)


def read_fashion_mnist(data: DataConfig) -> ImageSet:
    """Read 60,000 training and 10,000 test images of garments, [1, 28, 28]."""
    return _read(FASHION_MNIST, _GARMENTS, data)


def read_idx(path: Path, num_dimensions: int) -> Tensor:
    """Return the uint8 tensor in an idx file, which may be gzipped.

    Raises:
        UserError: if the file is truncated, corrupt or of another format.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            # The last four bytes are the size, with which the memory for the result is allocated once.
            size = int.from_bytes(content[-4:], "little")
            content = zlib.decompress(content, wbits=16 + zlib.MAX_WBITS, bufsize=max(1, min(size, _MOST_BYTES)))
    except (OSError, EOFError, zlib.error) as error:
        raise broken_file(path, f"can't be read ({error})") from error
    header_size = 4 + 4 * num_dimensions
    if content[:4] != bytes([0, 0, 8, num_dimensions]) or len(content) < header_size:
        raise broken_file(path, f"is not an idx file of bytes in {num_dimensions} dimensions")
    shape = struct.unpack(f">{num_dimensions}I", content[4:header_size])
    if len(content) != header_size + math.prod(shape):
        raise broken_file(path, f"has {len(content):,} bytes where {header_size + math.prod(shape):,} should be")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header_size).view(shape)


def _read(locations: FileLocations, classes: tuple[str, ...], data: DataConfig) -> ImageSet:
    paths = locate(locations, data)
    train_images, train_labels, test_images, test_labels = (paths[name] for name in locations.files)
    return ImageSet(classes, _read_split(train_images, train_labels), _read_split(test_images, test_labels))


def _read_split(images_path: Path, labels_path: Path) -> LabelledImages:
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) == 0 or images.shape[1:] != (SIDE, SIDE):
        raise broken_file(images_path, f"holds {'x'.join(map(str, images.shape))} pixels, not n x {SIDE} x {SIDE}")
    if len(labels) != len(images):
        raise broken_file(labels_path, f"has {len(labels):,} labels for {len(images):,} images")
    if int(labels.max()) >= NUM_CLASSES:
        raise broken_file(labels_path, f"has a label {int(labels.max())}, above {NUM_CLASSES - 1}")
    return LabelledImages(images[:, None], labels.to(torch.int64))
