"""Exact numbers of short trainings: recorded once, and compared after the code has changed.

Each configuration is trained by `python train.py` in a separate process, from the repository's root, on one CPU thread.
Recorded are the training loss of each of the first optimizer steps, every validation, the test, and the metrics of
summary.json. Two values are the same only if they are equal to the last digit in the files; times are left out. Numbers
of another machine, or of other versions of the libraries, differ, so both are recorded too.

    python -m benchmarks.numerics record before.json
    python -m benchmarks.numerics compare before.json
    python -m benchmarks.numerics compare before.json clip ema       some of the configurations

`compare` ends with exit code 1 if anything that was recorded is now different, missing, or can't be run. A metric that
was not recorded is not compared, so that new ones may be added. Fashion-MNIST is looked for where Debian's package
has it, in $CONVOY_DATA and in ~/.cache/convoy, or is given as --fashion-mnist FOLDER; it is never downloaded.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]

# ----------------------------------------------------------------------------------------------------------------------
# What is trained, in the words of the command line. Where a key is renamed, this is the only place to change.


@dataclass(frozen=True)
class Configuration:
    """One training.

    Attributes:
        overrides: overrides in addition to `COMMON`, which they replace.
        data: entry of `DATA` for data.root; None if the set needs none.
        resumed: overrides with which the run is resumed after its end; None if it is not resumed.
    """

    overrides: str = ""
    data: str | None = None
    resumed: str | None = None


COMMON = (
    "logger=csv trainer.gpus=0 hardware.cpu_threads=1 trainer.precision=32 trainer.deterministic=true "
    "trainer.log_every_steps=1 trainer.max_steps=30"
)
"""Of every configuration. With no other model and data it is LeNet-5 on digits: SGD, cosine, 10 steps an epoch."""

DROPOUT_CHAIN = '[CONV3-8,POOL2,"CONV3-16 bn",POOL2,FC-64,DROPOUT0.5,FC-64,DROPOUT0.3,"FC-{num_classes}"]'
PHOTOS = "model=resnet20 data.image_size=32 trainer.global_batch_size=16 optimizer.lr=0.05"
SHARDS = "data.eval_resize=36 data.shuffle_buffer=32"

CONFIGURATIONS: dict[str, Configuration] = {
    # Optimizers and schedules.
    "sgd": Configuration(),
    "sgd_constant": Configuration("scheduler=constant"),
    "adam_cosine": Configuration("optimizer=adam scheduler=cosine scheduler.final_fraction=0.1"),
    "adamw_linear": Configuration(
        "optimizer=adamw scheduler=linear scheduler.warmup_epochs=0 scheduler.warmup_steps=7"
    ),
    "rmsprop_step": Configuration("optimizer=rmsprop scheduler=step scheduler.step_size=1 scheduler.gamma=0.5"),
    "lamb": Configuration("optimizer=lamb"),
    "lars_multistep": Configuration(
        "optimizer=lars scheduler=multistep scheduler.interval=step scheduler.milestones=[8,20]"
    ),
    "plateau_early_stopping": Configuration(
        "scheduler=plateau scheduler.monitor=val/error scheduler.mode=min scheduler.patience=0 optimizer.lr=0.5 "
        "trainer.max_steps=null trainer.max_epochs=25 trainer.global_batch_size=256 trainer.early_stopping_epochs=2"
    ),
    # One choice of the training step at a time, then several at once.
    "accumulation": Configuration("trainer.micro_batch_size=32"),
    "ema": Configuration("trainer.ema_decay=0.9"),
    "mixup": Configuration("task.mixup=0.4"),
    "cutmix": Configuration("task.cutmix=1.0"),
    "mixup_and_cutmix": Configuration("task.mixup=0.2 task.cutmix=1.0"),
    "label_smoothing": Configuration("loss.label_smoothing=0.1"),
    "clip": Configuration("trainer.clip_grad_norm=0.25"),
    "many_at_once": Configuration(
        "model=resnet20 optimizer=adamw trainer.global_batch_size=32 trainer.micro_batch_size=16 task.mixup=0.2 "
        "task.cutmix=1.0 loss.label_smoothing=0.1 trainer.clip_grad_norm=0.5 trainer.ema_decay=0.95"
    ),
    "activation_checkpointing": Configuration(
        "model=wide_resnet28_10 model.blocks=1 model.width=1 model.dropout=0.3 trainer.global_batch_size=32 "
        "optimizer.lr=0.05 trainer.activation_checkpointing=true"
    ),
    "channels_first": Configuration("trainer.channels_last=false"),
    "bf16": Configuration("model=convolutional trainer.precision=bf16-mixed"),
    # Networks that train otherwise than others.
    "resnet": Configuration(
        "model=resnet20 data.augment.pad_crop=4 data.augment.flip=true trainer.global_batch_size=32"
    ),
    "dropout": Configuration(f"model=vgg11 model.layers={DROPOUT_CHAIN} optimizer.lr=0.02"),
    "vgg11": Configuration("model=vgg11 trainer.global_batch_size=16 trainer.max_steps=6"),
    "auxiliary": Configuration(
        "model=googlenet model.auxiliary_weight=0.4 loss.label_smoothing=0.1 trainer.global_batch_size=16 "
        "optimizer.lr=0.01 trainer.max_steps=12"
    ),
    "stochastic_depth": Configuration(
        "model=efficientnet_b0 optimizer.lr=0.01 trainer.global_batch_size=16 trainer.max_steps=10"
    ),
    "frozen_features": Configuration(
        "model=resnet20 model.freeze=features optimizer.lr=0.01 trainer.global_batch_size=32"
    ),
    "frozen_list": Configuration("model=resnet20 model.freeze=[conv,bn,stages.0] trainer.global_batch_size=32"),
    # Two processes.
    "two_processes": Configuration("trainer.processes=2"),
    "two_processes_many_at_once": Configuration(
        "trainer.processes=2 trainer.micro_batch_size=16 trainer.global_batch_size=64 task.mixup=0.2 "
        "trainer.clip_grad_norm=0.5 trainer.ema_decay=0.9"
    ),
    # Gone on with in the middle of an epoch.
    "resumed": Configuration(
        "scheduler=constant trainer.max_steps=13 trainer.checkpoint_every_steps=4",
        resumed="trainer.max_steps=30",
    ),
    "resumed_many_at_once": Configuration(
        "optimizer=adamw scheduler=constant trainer.max_steps=13 trainer.checkpoint_every_steps=4 task.mixup=0.2 "
        "trainer.micro_batch_size=64 trainer.ema_decay=0.9",
        resumed="trainer.max_steps=30",
    ),
    # Where images come from.
    "cutout": Configuration("data.augment.cutout=8 data.augment.pad_crop=0"),
    "image_folder": Configuration(
        f"data=image_folder {PHOTOS} data.eval_resize=36 data.augment.random_resized_crop=[0.25,1.0] "
        "data.augment.flip=true",
        data="folder",
    ),
    "image_folder_split": Configuration(f"data=image_folder {PHOTOS} data.val_fraction=0.2", data="folder/train"),
    "jpeg_shards": Configuration(f"data=shards {PHOTOS} {SHARDS}", data="jpeg_shards"),
    "raw_shards": Configuration(f"data=shards {PHOTOS} {SHARDS}", data="raw_shards"),
    "fashion_mnist_fast": Configuration(
        "experiment=fashion_mnist_fast trainer.precision=bf16-mixed trainer.max_steps=40", data="fashion_mnist"
    ),
}

CACHE = Path(os.environ.get("CONVOY_DATA") or "~/.cache/convoy").expanduser()
FASHION_MNIST = (
    Path("/usr/share/datasets/fashion-mnist"),
    *(CACHE / name for name in (".", "FashionMNIST/raw", "raw")),
)
"""Folders that may hold its four files."""

PACKING = {
    "jpeg_shards": "size=48 format=jpeg shard_mib=0.1",
    "raw_shards": "size=48 format=raw shard_mib=0.3",
}
"""What `convoy pack` is told of the image folder, by the name in `DATA`."""

DATA = ("folder", "folder/train", *PACKING, "fashion_mnist")

# ----------------------------------------------------------------------------------------------------------------------
# What is kept of a training.

NUM_STEPS = 30
"""Optimizer steps whose training metrics are kept. Validations are kept to the end."""

METRICS = ("train/loss", "train/top1", "val/", "test/")
"""Beginnings of the names of metrics, in metrics.csv and in summary.json."""

COUNTS = ("steps", "best_step", "parameters", "images", "skipped_images")
"""What else summary.json counts."""

LIBRARIES = ("torch", "torchvision", "timm", "pytorch-lightning", "torchmetrics", "numpy", "pillow", "simplejpeg")

Record = dict[str, Any]
"""{"metrics": {name: {step: value}}, "summary": {key: value}}, or {"skipped": why}."""


class RunError(Exception):
    """A training, or the packing of its data, ended otherwise than it should."""


class AbsentError(Exception):
    """A data set is not on this machine."""


def read_metrics(path: Path) -> dict[str, dict[str, float]]:
    """The metrics of a metrics.csv by name and step. A step's number is text, as a key of JSON must be."""
    series: dict[str, dict[str, float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, text in row.items():
                is_early = int(row["step"]) <= NUM_STEPS or not name.startswith("train/")
                if name.startswith(METRICS) and text and is_early:
                    series.setdefault(name, {})[row["step"]] = float(text)
    return series


def read_summary(path: Path) -> dict[str, Any]:
    """Counts and metrics of a summary.json; a mapping in it becomes keys such as test/per_class.3."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return dict(flat({name: content[name] for name in content if name.startswith(METRICS) or name in COUNTS}))


def flat(content: Mapping[str, Any], lead: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, by their keys joined with dots."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{lead}{name}.")
        else:
            yield f"{lead}{name}", value


def machine() -> dict[str, str]:
    """What the numbers depend on beside the code: the processor and the versions of the libraries."""
    import torch

    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    found = {"processor": f"{name}, {torch.backends.cpu.get_cpu_capability()}", "python": platform.python_version()}
    return found | {library: version(library) for library in LIBRARIES}


# ----------------------------------------------------------------------------------------------------------------------
# Data.


class Places:
    """Where data lies, made when it is first asked for.

    Args:
        folder: an empty one, for what is made.
        fashion_mnist: the folder of its files; None: it is looked for.
    """

    def __init__(self, folder: Path, fashion_mnist: Path | None = None) -> None:
        self._folder = folder
        self._fashion_mnist = fashion_mnist
        self._made: dict[str, Path] = {}

    def of(self, name: str) -> Path:
        """The folder of one of `DATA`.

        Raises:
            AbsentError: it is not on this machine.
            RunError: it could not be packed.
        """
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Path:
        path = self._folder / name
        if name == "fashion_mnist":
            return find_fashion_mnist([self._fashion_mnist] if self._fashion_mnist else FASHION_MNIST)
        if name == "folder/train":
            return self.of("folder") / "train"
        if name == "folder":
            write_folder(path)
        else:
            words = ["pack", "data=image_folder", f"data.root={self.of('folder')}", f"output={path}"]
            start(console_script(), [*words, *PACKING[name].split()])
        return path


def find_fashion_mnist(folders: Sequence[Path]) -> Path:
    """The first of the folders that has it.

    Raises:
        AbsentError: none has.
    """
    for folder in folders:
        if any(folder.glob("train-images-idx3-ubyte*")):
            return folder
    raise AbsentError(f"no Fashion-MNIST in {', '.join(map(str, folders))}")


def write_folder(root: Path, num_classes: int = 3, seed: int = 7) -> None:
    """train, val and test of coloured stripes in noise, 40 to 90 pixels a side: JPEG and PNG in turn, the same ones
    every time. Classes differ in the stripes' direction and, by tendency, in colour."""
    chance = np.random.default_rng(seed)
    for split, count in (("train", 40), ("val", 12), ("test", 12)):
        for label in range(num_classes):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                height, width = (int(side) for side in chance.integers(40, 91, 2))
                down, across = np.mgrid[:height, :width]
                angle = math.pi * label / num_classes + chance.uniform(-0.2, 0.2)
                waves = np.sin((down * math.sin(angle) + across * math.cos(angle)) * chance.uniform(0.3, 0.6))
                colour = chance.uniform(40, 160, 3) + 40 * np.eye(3)[label % 3]
                pixels = colour + 40 * waves[..., None] + chance.uniform(-30, 30, (height, width, 3))
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(folder / f"{index:03}.{'png' if index % 2 else 'jpg'}")


# ----------------------------------------------------------------------------------------------------------------------
# Processes.


def console_script() -> list[str]:
    """The command `convoy` as pyproject.toml names it, of this repository whatever is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"]["convoy"].partition(":")
    return [sys.executable, "-c", f"import sys; from {module} import {function} as main; sys.exit(main())"]


def start(command: Sequence[str], words: Sequence[str]) -> None:
    """Run a command from the repository's root, with the repository's own package, to its end.

    Raises:
        RunError: its exit code is not 0; with its last lines.
    """
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True, env=environment)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-8:]
        raise RunError("\n    ".join([f"exit code {done.returncode} of {' '.join(words)}", *said]))


def train(configuration: Configuration, folder: Path, places: Places) -> Record:
    """Train it in a new folder, go on with it if it is to be, and read what it left.

    Raises:
        AbsentError: its data is not on this machine.
        RunError: it failed.
    """
    overrides = [*COMMON.split(), *split_overrides(configuration.overrides), f"folder={folder}"]
    if configuration.data is not None:
        overrides.append(f"data.root={places.of(configuration.data)}")
    script = [sys.executable, "train.py"]
    start(script, list({text.partition("=")[0]: text for text in overrides}.values()))
    if configuration.resumed is not None:
        start(script, [f"resume={folder}", *split_overrides(configuration.resumed)])
    return {"metrics": read_metrics(folder / "metrics.csv"), "summary": read_summary(folder / "summary.json")}


def split_overrides(text: str) -> list[str]:
    """Overrides at the spaces between them; one within brackets belongs to a value."""
    words: list[str] = []
    for word in text.split():
        if words and words[-1].count("[") > words[-1].count("]"):
            words[-1] += f" {word}"
        else:
            words.append(word)
    return words


def train_all(names: Sequence[str], fashion_mnist: Path | None) -> Iterator[tuple[str, Record | RunError, float]]:
    """Each configuration with what it left, or why it failed, and its seconds."""
    with tempfile.TemporaryDirectory(prefix="numerics-") as folder:
        places = Places(Path(folder) / "data", fashion_mnist)
        for name in names:
            began = time.perf_counter()
            found: Record | RunError
            try:
                found = train(CONFIGURATIONS[name], Path(folder) / "runs" / name, places)
            except AbsentError as error:
                found = {"skipped": str(error)}
            except RunError as error:
                found = error
            yield name, found, time.perf_counter() - began


# ----------------------------------------------------------------------------------------------------------------------
# Comparison.


def values_of(record: Record) -> dict[str, Any]:
    """All values of a record by what they are, in the order in which they came about."""
    values = {(int(step), name): value for name, series in record["metrics"].items() for step, value in series.items()}
    named = {f"{name} at step {step}": values[step, name] for step, name in sorted(values)}
    return named | {f"{name} in summary.json": value for name, value in record["summary"].items()}


def difference(recorded: Record, found: Record) -> str | None:
    """The first value in which they differ, and in how many they do; None where there is none."""
    before, now = values_of(recorded), values_of(found)
    wrong = [what for what in before if not is_same(before[what], now.get(what))]
    if not wrong:
        return None
    first = wrong[0]
    values = f"{told(before[first])} recorded, {told(now[first]) if first in now else 'nothing'} now"
    return f"first {first}: {values}; {len(wrong)} of {len(before)} values differ"


def is_same(before: Any, now: Any) -> bool:
    """Equal, or both not a number."""
    both_nan = isinstance(before, float) and isinstance(now, float) and math.isnan(before) and math.isnan(now)
    return both_nan or bool(before == now)


def told(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


# ----------------------------------------------------------------------------------------------------------------------
# The two verbs.


def record(path: Path, names: Sequence[str], fashion_mnist: Path | None) -> int:
    """Write what the configurations give; 1 if one of them failed."""
    found_of: dict[str, Record] = {}
    num_failed, began = 0, time.perf_counter()
    for name, found, seconds in train_all(names, fashion_mnist):
        if isinstance(found, RunError):
            num_failed += 1
            say(name, f"failed: {found}", seconds)
            continue
        found_of[name] = found
        is_skipped = "skipped" in found
        say(name, f"skipped: {found['skipped']}" if is_skipped else f"{len(values_of(found))} values", seconds)
    content = {"machine": machine(), "configurations": found_of}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{len(found_of)} recorded in {path}, {num_failed} failed; {time.perf_counter() - began:.0f} s")
    return 1 if num_failed else 0


def compare(path: Path, names: Sequence[str], fashion_mnist: Path | None) -> int:
    """Tell what differs from what was recorded; 1 if anything does."""
    content = json.loads(path.read_text(encoding="utf-8"))
    recorded = {name: content["configurations"][name] for name in names or content["configurations"]}
    here = machine()
    for what in here:
        if here[what] != content["machine"].get(what):
            was = content["machine"].get(what)
            print(f"note: {what} was {was} and is {here[what]}; numbers may differ by that alone")
    num_wrong, began = 0, time.perf_counter()
    for name in [name for name in recorded if name not in CONFIGURATIONS]:
        num_wrong += 1
        say(name, "recorded, and there is no such configuration any more")
    for name in [name for name in recorded if "skipped" in recorded[name]]:
        say(name, f"nothing recorded: {recorded[name]['skipped']}")
    known = [name for name in recorded if name in CONFIGURATIONS and "skipped" not in recorded[name]]
    for name, found, seconds in train_all(known, fashion_mnist):
        if isinstance(found, RunError):
            verdict = f"FAILED: {found}"
        elif "skipped" in found:
            verdict = f"NOT COMPARED: {found['skipped']}"
        elif (first := difference(recorded[name], found)) is not None:
            verdict = f"DIFFERENT: {first}"
        else:
            say(name, f"identical, {len(values_of(recorded[name]))} values", seconds)
            continue
        num_wrong += 1
        say(name, verdict, seconds)
    print(f"{len(recorded) - num_wrong} of {len(recorded)} identical; {time.perf_counter() - began:.0f} s")
    return 1 if num_wrong else 0


def say(name: str, what: str, seconds: float | None = None) -> None:
    """One line of a configuration, at once."""
    width = max(map(len, CONFIGURATIONS))
    print(f"{name:<{width}}  {'' if seconds is None else f'{seconds:4.1f} s':>6}  {what}", flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Record or compare, and give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("record", "compare"))
    parser.add_argument("file", type=Path, metavar="FILE.json")
    parser.add_argument("names", nargs="*", metavar="NAME", help="some configurations instead of all")
    parser.add_argument("--fashion-mnist", type=Path, metavar="FOLDER", help="where its four files lie")
    given = parser.parse_args(words)
    recorded = {} if given.verb == "record" else json.loads(given.file.read_text(encoding="utf-8"))["configurations"]
    known = CONFIGURATIONS if given.verb == "record" else recorded
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"{unknown[0]}: no such configuration; choose from {', '.join(known)}")
    if given.verb == "record":
        return record(given.file, given.names or list(CONFIGURATIONS), given.fashion_mnist)
    return compare(given.file, given.names, given.fashion_mnist)


if __name__ == "__main__":
    sys.exit(main())
