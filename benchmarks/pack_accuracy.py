"""Effect of packing on accuracy: the same training from a folder, from shards of JPEGs and from raw pixels.

The images are garments of Fashion-MNIST, drawn 280 pixels large at a random place of a blurred 400x300 background.
Packing with 256 pixels therefore shrinks them, JPEGs are compressed twice, and raw pixels lose the sides. The effect on
photographs may differ. Takes several minutes on two cores; not part of `make bench`.

    python -m benchmarks.pack_accuracy --seeds 1 2 3
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from benchmarks.rounds import machine
from convoy.config.data_schema import DataConfig
from convoy.data.sources.mnist import read_fashion_mnist

WIDTH, HEIGHT, GARMENT, QUALITY = 400, 300, 280, 90
SPLITS = {"train": 4000, "val": 400, "test": 2000}
TRAINING = (
    "model=lenet5",
    "model.layers=[CONV3-24 bn,POOL2,CONV3-48 bn,POOL2,CONV3-96 bn,POOL2,CONV3-96 bn,GAP,'FC-{num_classes}']",
    "model.activation=relu",
    "data.image_size=64",
    "data.eval_resize=72",
    "data.augment.random_resized_crop=[0.35,1.0]",
    "optimizer.lr=0.1",
    "trainer.max_epochs=4",
    "trainer.global_batch_size=64",
    "trainer.gpus=0",
    "logger=csv",
)


def draw(folder: Path, seed: int = 1) -> None:
    """Write the images to train/, val/ and test/, with one folder per class."""
    images = read_fashion_mnist(DataConfig(name="fashion_mnist", source="fashion_mnist", image_size=28))
    random = np.random.default_rng(seed)
    pixels, labels = images.train.images[:, 0].numpy(), images.train.labels.tolist()
    done = 0
    for split, count in SPLITS.items():
        for number in range(done, done + count):
            coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            ground = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            garment = Image.fromarray(pixels[number]).resize((GARMENT, GARMENT), Image.Resampling.BICUBIC)
            left, top = int(random.integers(0, WIDTH - GARMENT + 1)), int(random.integers(0, HEIGHT - GARMENT + 1))
            ground.paste(Image.new("RGB", garment.size, "white"), (left, top), garment)
            path = folder / split / str(labels[number]) / f"{number:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            ground.save(path, quality=QUALITY)
        done += count


def convoy(*words: str) -> None:
    """Run a Convoy command.

    Raises:
        subprocess.CalledProcessError: If it fails, after it has printed the reason.
    """
    command = [sys.executable, "-m", "convoy.commands.main", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    given = parser.parse_args(words)
    print(machine("torch", "pillow", "simplejpeg"), flush=True)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        draw(root / "folder")
        ways = {"folder": ["data=image_folder"], "jpeg": ["data=shards"], "raw": ["data=shards"]}
        for form in ("jpeg", "raw"):
            output = root / form
            convoy("pack", "data=image_folder", f"data.root={root / 'folder'}", f"output={output}", f"format={form}")
        for way, data in ways.items():
            found = []
            for seed in given.seeds:
                run = root / f"{way}-{seed}"
                convoy("train", *data, f"data.root={root / way}", *TRAINING, f"seed={seed}", f"folder={run}")
                found.append(json.loads((run / "summary.json").read_text(encoding="utf-8"))["test/top1"])
            shown = ", ".join(f"{100 * one:.2f}" for one in found)
            print(f"{way:8} test top-1 {shown} %, median {100 * median(found):.2f} %", flush=True)


if __name__ == "__main__":
    main()
