"""Accuracy of three training features with several seeds: unequal classes, fine-tuning and distillation.

- `long_tail`: CIFAR-10 with classes of 5,000 to 50 images (Cui et al. 2019, factor 100), with and without balancing.
  Another 100 images per class choose the checkpoint.
- `fine_tuning`: Fashion-MNIST with 10, 100 and all images per class, from random weights and from a network that was
  trained on CIFAR-10.
- `distillation`: a small chain on Fashion-MNIST with 1,000 images per class, alone and with ResNet-18 as its teacher.

The data is a folder with CIFAR-10 as `train/<class>` and `test/<class>`, and Fashion-MNIST where `data=fashion_mnist`
finds it.

    python -m benchmarks.training_recipes long_tail --data cifar10
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import convoy
from benchmarks.results import Result
from benchmarks.rounds import machine

LAYERS = (
    "[CONV3-32 nobias linear,POOL2,BN,RELU,CONV3-64 nobias linear,POOL2,BN,RELU,CONV3-128 nobias linear,POOL2,BN,RELU,"
    "FC-128 bn,'FC-{num_classes}']"
)
CHAIN = ("model=lenet5", "model.name=chain", "model.activation=relu", f"model.layers={LAYERS}")
SMALL = ("model=lenet5", "model.layers=[CONV3-8,POOL2,CONV3-16,POOL2,'FC-{num_classes}']", "model.activation=relu")
RECIPE = ("optimizer=adamw", "optimizer.lr=4e-3", "optimizer.weight_decay=0.05", "scheduler.warmup_epochs=1")
QUIET = ("logger=csv", "report=false", "trainer.gpus=0", "trainer.global_batch_size=128")
BALANCING = {
    "none": (),
    "data.sampler=sqrt": ("data.sampler=sqrt",),
    "data.sampler=balanced": ("data.sampler=balanced",),
    "loss.weight=balanced": ("loss.weight=balanced",),
}
FACTOR, MOST, HELD_OUT = 100, 5000, 100


def long_tail_table(images: Path, file: Path, most: int = MOST) -> list[int]:
    """Write a table of images with `most` * 100^(-i / 9) of class i, and return their numbers.

    Args:
        images: folder with `train/<class>` and `test/<class>`.
        file: CSV file with the columns image, class and split.
        most: images of the first class.
    """
    classes = sorted(path.name for path in (images / "train").iterdir())
    # Rounded down, as by the authors: 12,406 images.
    numbers = [int(most * FACTOR ** (-index / (len(classes) - 1))) for index in range(len(classes))]
    with file.open("w", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow(["image", "class", "split"])
        for name, number in zip(classes, numbers, strict=True):
            found = sorted((images / "train" / name).iterdir())
            held_out = max(1, HELD_OUT * most // MOST)
            splits = {"val": found[:held_out], "train": found[held_out:][:number]}
            splits["test"] = sorted((images / "test" / name).iterdir())
            rows.writerows((path.resolve(), name, split) for split, paths in splits.items() for path in paths)
    return numbers


def trained(folder: Path, seed: int, *words: str) -> convoy.Run:
    """Train a run and return it."""
    return convoy.train(*QUIET, f"seed={seed}", f"output_root={folder}", *words)


def recalls(run: convoy.Run) -> list[float]:
    """Return the recall of each class on the test split in percent, in the order of the classes."""
    return [100 * recall for recall in run.summary["test/per_class"].values()]


def long_tail(given: argparse.Namespace, folder: Path) -> list[Result]:
    """Compare ways to treat unequal classes, with the mean recall of each class."""
    file = folder / "long_tail.csv"
    numbers = long_tail_table(given.data, file, given.most)
    columns = ("data.image_column=image", "data.target_column=class", "data.split_column=split")
    shape = ("data.image_size=32", "data.eval_resize=32", "data.augment.random_resized_crop=null")
    data = ("data=table", f"data.file={file}", *columns, *shape, "data.augment.pad_crop=4")
    print("images per class: " + ", ".join(map(str, numbers)))
    accuracies: dict[str, list[float]] = {}
    for name, words in BALANCING.items():
        runs = [
            trained(folder, seed, *data, *CHAIN, *RECIPE, f"trainer.max_epochs={given.epochs}", *words)
            for seed in range(1, given.seeds + 1)
        ]
        accuracies[name] = [100 * run.summary["test/top1"] for run in runs]
        means = [statistics.mean(values) for values in zip(*map(recalls, runs), strict=True)]
        print(f"{name}: {spread(accuracies[name])}; recall " + ", ".join(f"{mean:.1f}" for mean in means), flush=True)
    return against_first("accuracy with unequal classes", accuracies)


def fine_tuning(given: argparse.Namespace, folder: Path) -> list[Result]:
    """Compare random weights with those of a network that was trained on other images."""
    shape = ("data.image_size=32", "data.eval_resize=32", "data.augment.random_resized_crop=null")
    source = ("data=image_folder", f"data.root={given.data}", *shape, "data.augment.pad_crop=4")
    before = trained(folder, 1, *source, *CHAIN, *RECIPE, f"trainer.max_epochs={given.epochs}")
    print(f"source: {100 * before.summary['test/top1']:.2f} % on CIFAR-10", flush=True)
    starts = {"random weights": (), "weights from CIFAR-10": (f"model.pretrained={before.path}",)}
    results = []
    for number, epochs in ((10, given.epochs * 4), (100, given.epochs * 2), (None, max(1, given.epochs // 4))):
        accuracies: dict[str, list[float]] = {}
        for name, words in starts.items():
            limit = (f"data.max_per_class={number or 'null'}", f"trainer.max_epochs={epochs}")
            data = ("data=fashion_mnist", "data.channels=3", *limit, "trainer.global_batch_size=64")
            runs = [trained(folder, seed, *data, *CHAIN, *RECIPE, *words) for seed in range(1, given.seeds + 1)]
            accuracies[name] = [100 * run.summary["test/top1"] for run in runs]
            print(f"{number or 'all'} per class, {name}: {spread(accuracies[name])}", flush=True)
        results += against_first(f"accuracy with {number or 'all'} images per class", accuracies)
    return results


def distillation(given: argparse.Namespace, folder: Path) -> list[Result]:
    """Compare a small network that is trained alone with one that has a teacher."""
    data = ("data=fashion_mnist", f"data.max_per_class={given.most // 5}")
    teacher = trained(folder, 1, *data, "model=resnet18", *RECIPE, f"trainer.max_epochs={max(1, given.epochs // 2)}")
    print(f"teacher: {100 * teacher.summary['test/top1']:.2f} %", flush=True)
    accuracies: dict[str, list[float]] = {}
    for name, words in (("alone", ()), ("with a teacher", ("task=distillation", f"task.teacher={teacher.path}"))):
        runs = [
            trained(folder, seed, *data, *SMALL, *RECIPE, f"trainer.max_epochs={given.epochs}", *words)
            for seed in range(1, given.seeds + 1)
        ]
        accuracies[name] = [100 * run.summary["test/top1"] for run in runs]
        print(f"{name}: {spread(accuracies[name])}", flush=True)
    return against_first("accuracy of a small chain", accuracies)


PARTS = {"long_tail": long_tail, "fine_tuning": fine_tuning, "distillation": distillation}


def spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation of accuracies."""
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.2f} % (deviation {deviation:.2f})"


def against_first(title: str, accuracies: Mapping[str, Sequence[float]]) -> list[Result]:
    """Return the differences between each way to train and the first one, per seed."""
    (first, base), *others = accuracies.items()
    return [
        Result(title, name, first, [one - other for one, other in zip(values, base, strict=True)], unit="points")
        for name, values in others
    ]


def main(words: Sequence[str] | None = None) -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--data", type=Path, help="folder with CIFAR-10")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of a training; see the parts")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind")
    parser.add_argument("--most", type=int, default=MOST, help="images of the largest class")
    given = parser.parse_args(words)
    print(machine("torch"))
    with TemporaryDirectory() as folder:
        results = [result for part in given.parts for result in PARTS[part](given, Path(folder))]
    for result in results:
        print(result.line())
    return results


if __name__ == "__main__":
    main()
