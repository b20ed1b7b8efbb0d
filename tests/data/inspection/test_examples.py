"""Examples of a data set: their augmentation against the batches of a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from convoy.config.schema import Config
from convoy.data.data_module import ImageData
from convoy.data.inspection.examples import augmented, example_rows
from convoy.data.inspection.inspect_data import Inspection, chosen_samples, inspect_data
from convoy.data.opening.open_data import open_data
from convoy.data.sampling.randomness import permutation
from convoy.training.preflight import read_data


def composed(*words: str) -> Config:
    return read_data(words)


def looked(config: Config) -> Inspection:
    opened = open_data(config.data, config.seed)
    return inspect_data(opened, config.data, chosen_samples(opened, 0, 0), 2)


def write_photos(folder: Path) -> None:
    image = Image.fromarray(load_sample_image("china.jpg"))
    for number in range(40):
        target = folder / ("left" if number % 2 else "right")
        target.mkdir(parents=True, exist_ok=True)
        column, row = number % 8 * 70, number // 8 * 80
        image.crop((column, row, column + 70, row + 80)).save(target / f"{number:02}.png")


@pytest.mark.parametrize("source", ["memory", "folder"])
def test_augmented_images_are_those_of_the_first_epoch(source: str, tmp_path: Path) -> None:
    if source == "memory":
        words = [
            "data=digits",
            "data.augment.trivial_augment=true",
            "data.augment.erasing=0.5",
            "data.augment.cutout=8",
        ]
    else:
        write_photos(tmp_path / "photos")
        words = [
            "data=photos",
            "data.image_size=48",
            "data.eval_resize=64",
            "data.augment.color_jitter=[0.4,0.4,0.4,0.1]",
        ]
    config = composed(*words, "seed=7")
    training = ImageData(config.data, seed=7, micro_batch_size=4, accumulation=1, eval_batch_size=4)
    training.open()
    batches = torch.cat([batch.images for batch in training.training_loader(0)])
    order = permutation(7, 0, training.sizes["train"])[: len(batches)]
    opened = open_data(config.data, 7)
    mean, std = (np.array(values, dtype=np.float32) for values in (config.data.mean, config.data.std))
    for image, found in zip(batches[:20], augmented(opened, order[:20], config.data, 7), strict=True):
        expected = (image.permute(1, 2, 0).numpy() * std + mean) * 255
        assert np.abs(expected - found).max() < 0.51


def test_each_class_has_readable_examples(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos")
    (tmp_path / "photos" / "left" / "text.png").write_text("no image")
    config = composed("data=photos", "data.image_size=32", "data.eval_resize=null", "data.val_fraction=0.2")
    rows = example_rows(open_data(config.data, 0), looked(config), config.data, 0, all_classes=False)
    assert [row.title for row in rows] == ["left", "right"]
    for row in rows:
        assert len(row.examples) == 8
        for example in row.examples:
            name = Path(example.names[0])
            assert name.parent.name == row.title
            expected = np.asarray(Image.open(name).resize((32, 36), Image.Resampling.BILINEAR))[2:34]
            assert np.abs(expected.astype(int) - example.pictures[0]).max() <= 1


def test_values_are_shown_by_their_range() -> None:
    lines = ["file,length"]
    write_photos(Path("photos"))
    for number, file in enumerate(sorted(Path("photos").glob("*/*"))):
        lines.append(f"{file.relative_to('photos')},{number}")
    Path("photos/labels.csv").write_text("\n".join(lines))
    words = ("data=table", "task=regression", "data.file=photos/labels.csv", "data.image_column=file")
    config = composed(*words, "data.target_column=length", "data.image_size=32", "data.eval_resize=null")
    rows = example_rows(open_data(config.data, 0), looked(config), config.data, 0, all_classes=False)
    assert [row.title.split()[0] for row in rows] == ["length"] * 4
    bounds = [float(row.title.split()[side]) for row in rows for side in (1, 3)]
    assert bounds == sorted(bounds)


def test_pairs_across_splits_come_first(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write_photos(folder / "train")
    write_photos(folder / "val")
    for file in (folder / "val").glob("*/*"):
        if file.name != "01.png":
            file.unlink()
    (folder / "val" / "right").rmdir()
    first = folder / "train" / "left" / "03.png"
    Image.open(first).save(folder / "train" / "left" / "03b.bmp")
    config = composed("data=photos", "data.image_size=32", "data.eval_resize=null")
    rows = example_rows(open_data(config.data, 0), looked(config), config.data, 0, all_classes=False)
    (pairs,) = [row for row in rows if row.title == "Equal pixels"]
    assert [example.names[1].split(":")[0] for example in pairs.examples] == ["val", "train"]
    for example in pairs.examples:
        assert np.array_equal(*example.pictures)
