"""What was published of each network, read from the head of its file in conf/model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

IMAGENET, CIFAR10, MNIST = "imagenet", "cifar10", "mnist"
SETS = {IMAGENET: "ImageNet", CIFAR10: "CIFAR-10", MNIST: "MNIST"}
"""Options of conf/data on which accuracies were published, with their names."""

_TOP1 = re.compile(r"Published: (?P<top1>[\d.]+) % top-1(?:, [\d.]+ % top-5)?(?P<part> for \w+)? \((?P<source>[^;)]+)")
_ERROR = re.compile(r"Published: (?P<error>[\d.]+) % error on (?P<set>[\w-]+)[^(]*\((?P<source>[^;)]+)")
_SIZE = re.compile(r"with (\d+)x(\d+)x\2 images and (\d+) classes")
_OTHER_SIZE = re.compile(r"on (\d+) pixels")


@dataclass(frozen=True)
class Published:
    """An accuracy that somebody stands for.

    Attributes:
        data: one of `SETS`.
        top1: share of the images, 0 to 1.
        source: where it stands.
        image_size: side of the images in pixels.
    """

    data: str
    top1: float
    source: str
    image_size: int


def published(path: Path) -> Published | None:
    """What the comments at the top of a model's file say; None where they name no accuracy.

    Raises:
        ValueError: they name one in other words than those that are understood.
    """
    head = _head(path)
    size = _SIZE.search(head)
    if "Published: " not in head or size is None:
        return None
    if found := _TOP1.search(head):
        if found["part"]:  # of one of the sizes that the file makes, which is an option of its own
            return None
        return _at(IMAGENET, float(found["top1"]) / 100, found["source"], int(size[2]))
    if found := _ERROR.search(head):
        data = next(option for option, name in SETS.items() if name == found["set"])
        return _at(data, 1 - float(found["error"]) / 100, found["source"], int(size[2]))
    raise ValueError(f"{path} says what was published in words that are not understood")


def _at(data: str, top1: float, source: str, image_size: int) -> Published:
    """Where a source names another size of image than the head, that one counts."""
    other = _OTHER_SIZE.search(source)
    return Published(data, round(top1, 6), source, int(other[1]) if other else image_size)


def _head(path: Path) -> str:
    """The comments before the first key, joined."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").strip())
    return " ".join(lines)
