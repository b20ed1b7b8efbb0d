"""Time to accuracy: Fashion-MNIST to 93 % and CIFAR-10 to 94 % test accuracy, by their shipped experiments.

Fashion-MNIST is read from /usr/share/datasets/fashion-mnist, or from the folder fashion-mnist in $CONVOY_TEST_DATA.
CIFAR-10 is a JPEG copy, cifar10_jpeg.tar.gz in $CONVOY_TEST_DATA, packed as raw pixels before training; its accuracy is
a little below that of the original images.
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from convoy.commands.main import main as convoy

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
CPU_IMAGES = 20
"""Images per class and split that the CPU trains on."""


def figures(device: str) -> Iterator[tuple[str, object]]:
    """Yield the test accuracy and the seconds of training of each set that is on this machine."""
    given = Path(os.environ.get("CONVOY_TEST_DATA", ""))
    places = (FASHION_MNIST, given / "fashion-mnist")
    root = next((place for place in places if place.is_dir()), None)
    if root is None:
        yield "fashion_mnist", f"not found in {places[0]} or {places[1]}"
    else:
        yield from _trained("fashion_mnist", ["experiment=fashion_mnist_fast", f"data.root={root}"], device)
    archive = given / "cifar10_jpeg.tar.gz"
    if not archive.is_file():
        yield "cifar10_jpeg", f"not found in {archive}"
        return
    with tempfile.TemporaryDirectory() as folder:
        _unpack(archive, Path(folder), None if device == "cuda" else CPU_IMAGES)
        images = ["data=image_folder", f"data.root={folder}/cifar10_jpeg", "data.image_size=32", "data.eval_resize=32"]
        if convoy(["pack", *images, f"output={folder}/packed", "format=raw", "size=32"]) != 0:
            raise SystemExit("CIFAR-10 was not packed")
        words = ["experiment=cifar10_fast", "data=shards", f"data.root={folder}/packed", "data.image_size=32"]
        words += ["data.augment.random_resized_crop=null", "data.augment.pad_crop=4", "data.augment.flip=true"]
        yield from _trained("cifar10_jpeg", words, device)


def _unpack(archive: Path, folder: Path, images: int | None) -> None:
    """Unpack an archive, or only the first images of each class, whose names are numbers from 1 on."""
    with tarfile.open(archive) as file:
        members = [member for member in file if images is None or _number(member.name) <= images]
        file.extractall(folder, members, filter="data")


def _number(name: str) -> int:
    """Return the number of an image, such as 12 for 0012.jpg; 0 for a folder."""
    stem = Path(name).stem
    return int(stem) if stem.isdigit() else 0


def _trained(name: str, words: Sequence[str], device: str) -> Iterator[tuple[str, object]]:
    length = ["trainer.max_epochs=null", "trainer.max_steps=2"]
    short = [] if device == "cuda" else [*length, "trainer.precision=32", "trainer.global_batch_size=64"]
    gpus = f"trainer.gpus={1 if device == 'cuda' else 0}"
    with tempfile.TemporaryDirectory() as folder:
        if (code := convoy(["train", *words, *short, gpus, "logger=csv", f"folder={folder}/run"])) != 0:
            raise SystemExit(f"the training on {name} ended with exit code {code}")
        summary = json.loads(Path(folder, "run", "summary.json").read_text(encoding="utf-8"))
    for key, value in summary.items():
        if key in ("test/top1", "seconds"):
            yield f"{name}, {key}", value
