"""convoy data: counts, pixel values, unreadable files and duplicates of real images with planted faults; mistakes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image
from tests.conftest import Run

Convoy = Callable[..., Run]
CLASSES = ("ant", "bee", "cat")


def report(convoy: Convoy, *words: str) -> dict[str, Any]:
    done = convoy("data", *words, "format=json")
    assert done.code == 0, done.err
    return dict(json.loads(done.out))


def photograph(number: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """Return a part of one of the two photographs of scikit-learn; parts do not overlap."""
    image = Image.fromarray(load_sample_image("china.jpg" if number % 2 else "flower.jpg"))
    column, row = number // 2 % 5 * 125, number // 10 * 95
    return image.crop((column, row, column + size[0], row + size[1]))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Folder with three classes of 8 training, 2 val and 2 test images; val has no image of cat."""
    folder, number = tmp_path / "photos", 0
    for split, count in (("train", 8), ("val", 2), ("test", 2)):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                photograph(number).save(folder / split / name / f"{index}.png")
                number += 1
    shutil.rmtree(folder / "val" / "cat")
    return folder


def names(groups: list[list[dict[str, str]]], folder: Path) -> list[list[str]]:
    return [[str(Path(image["name"]).relative_to(folder)) for image in group] for group in groups]


def test_counts_sizes_and_modes(convoy: Convoy, photos: Path) -> None:
    train = photos / "train"
    photograph(40, (50, 60)).convert("L").save(train / "ant" / "gray.png")
    photograph(41).convert("CMYK").save(train / "ant" / "cmyk.jpg")
    photograph(42).convert("RGBA").save(train / "ant" / "alpha.png")
    deep = np.random.default_rng(0).integers(0, 65536, (40, 30)).astype(np.uint16)
    Image.fromarray(deep).save(train / "bee" / "deep.png")
    found = report(convoy, f"data={photos}")
    counts = {split: found["splits"][split]["counts"] for split in ("train", "val", "test")}
    assert counts == {
        "train": {"ant": 11, "bee": 9, "cat": 8},
        "val": {"ant": 2, "bee": 2, "cat": 0},
        "test": {"ant": 2, "bee": 2, "cat": 2},
    }
    assert found["modes"] == {"RGB": 34, "L": 1, "CMYK": 1, "RGBA": 1, "I;16": 1}
    assert {(size["width"], size["height"]): size["images"] for size in found["sizes"]} == {
        (120, 90): 36,
        (50, 60): 1,
        (30, 40): 1,
    }
    done = convoy("data", f"data={photos}")
    assert done.code == 0, done.err
    assert "size   30x40 to 120x90, median 120x90" in done.out
    assert "mode   RGB 34, " in done.out
    assert all(mode in done.out for mode in (", gray 1", ", CMYK 1", ", RGBA 1", ", 16-bit gray 1"))
    assert "has no images of cat" in done.out


def test_mean_and_deviation_are_those_of_the_prepared_training_images(convoy: Convoy, photos: Path) -> None:
    found = report(convoy, f"data={photos}", "data.image_size=64", "data.eval_resize=90")
    center = (28, 13, 92, 77)
    pixels = np.stack([np.asarray(Image.open(file).crop(center)) for file in sorted(photos.glob("train/*/*"))])
    assert found["mean"] == pytest.approx(pixels.mean((0, 1, 2)) / 255, abs=1e-9)
    assert found["std"] == pytest.approx(pixels.std((0, 1, 2)) / 255, abs=1e-9)


def test_images_that_are_not_square(convoy: Convoy, photos: Path) -> None:
    words = (f"data={photos}", "data.image_size=[45,60]", "data.eval_resize=null")
    found = report(convoy, *words)
    files = sorted(photos.glob("train/*/*"))
    pixels = np.stack([np.asarray(Image.open(file).resize((60, 45), Image.Resampling.BILINEAR)) for file in files])
    assert found["mean"] == pytest.approx(pixels.mean((0, 1, 2)) / 255, abs=1e-3)
    assert convoy("data", *words, "output=sheet.png").code == 0


def test_unreadable_files_are_listed_with_their_reason(convoy: Convoy, photos: Path) -> None:
    bee = photos / "train" / "bee"
    photograph(40).save(bee / "whole.jpg")
    content = (bee / "whole.jpg").read_bytes()
    (bee / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (bee / "text.jpg").write_text("this is not an image")
    (bee / "empty.jpg").touch()
    os.mkfifo(bee / "pipe.jpg")
    bad = report(convoy, f"data={photos}")["splits"]["train"]["unreadable"]
    assert {Path(name).name for name in bad} == {"truncated.jpg", "text.jpg", "empty.jpg", "pipe.jpg"}
    assert "truncated" in bad[str(bee / "truncated.jpg")].lower()
    assert bad[str(bee / "text.jpg")] == "cannot identify the image format"
    assert bad[str(bee / "pipe.jpg")] == "is a named pipe"
    done = convoy("data", f"data={photos}")
    assert done.code == 0
    assert f"{bee / 'text.jpg'}: cannot identify" in done.out
    assert "4 images can't be decoded; data.on_bad_image=skip trains without them" in done.out


def test_a_set_without_a_readable_image(convoy: Convoy, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(5):
            (tmp_path / "set" / name / f"{number}.jpg").write_text("no image")
    done = convoy("data", "data=set", "output=page.html")
    assert done.code == 0, done.err
    assert "no image can be decoded" in done.out
    assert report(convoy, "data=set")["mean"] is None


def test_planted_duplicates_are_found(convoy: Convoy, photos: Path) -> None:
    train = photos / "train"
    shutil.copy(train / "ant" / "0.png", photos / "val" / "ant" / "copy.png")
    shutil.copy(train / "ant" / "1.png", train / "bee" / "copy.png")
    Image.open(train / "cat" / "0.png").save(train / "cat" / "lossless.bmp")
    Image.open(train / "ant" / "4.png").save(photos / "test" / "cat" / "encoded.jpg", quality=50)
    Image.open(train / "cat" / "2.png").resize((60, 45)).save(train / "cat" / "small.png")
    found = report(convoy, f"data={photos}")["duplicates"]
    assert names(found["equal"], photos) == [
        ["train/ant/0.png", "val/ant/copy.png"],
        ["train/ant/1.png", "train/bee/copy.png"],
        ["train/cat/0.png", "train/cat/lossless.bmp"],
    ]
    assert names(found["near"], photos) == [
        ["train/ant/4.png", "test/cat/encoded.jpg"],
        ["train/cat/2.png", "train/cat/small.png"],
    ]
    done = convoy("data", f"data={photos}")
    assert "1 val image is also in train" in done.out
    assert "2 images have equal pixels and different targets" in done.out
    assert f"train: {train}/ant/4.png\n    ~ test: {photos}/test/cat/encoded.jpg\n" in done.out


def test_images_without_faults_have_no_duplicates(convoy: Convoy, photos: Path) -> None:
    assert "no duplicates" in convoy("data", f"data={photos}").out


def test_real_images_in_shards_and_folders_have_equal_counts(convoy: Convoy, real_data: Callable[..., Path]) -> None:
    folder = real_data("cifar10_jpeg", "train/*/00[0-4]?.jpg", "test/*/000?.jpg")
    size = ("data.image_size=32", "data.eval_resize=null")
    found = report(convoy, f"data={folder}", *size)
    files = list(folder.glob("train/*/*"))
    kept = {name: facts["images"] for name, facts in found["splits"].items()}
    assert kept["train"] + kept["val"] == len(files)
    assert convoy("pack", f"data={folder}", "output=packed", "format=raw", "size=32").code == 0
    packed = report(convoy, "data=shards", "data.root=packed", *size)
    for name, facts in found["splits"].items():
        assert packed["splits"][name]["counts"] == facts["counts"]
    assert packed["mean"] == pytest.approx(found["mean"], abs=1e-9)
    assert packed["sizes"] == [{"width": 32, "height": 32, "images": sum(kept.values())}]


def test_a_published_set_has_the_pixels_of_its_config(convoy: Convoy) -> None:
    found = report(convoy, "data=digits")
    assert found["mean"] == pytest.approx(found["configured_mean"], abs=5e-4)
    assert found["std"] == pytest.approx(found["configured_std"], abs=5e-4)
    assert found["sizes"] == [{"width": 8, "height": 8, "images": 1797}]
    assert sum(sum(facts["counts"].values()) for facts in found["splits"].values()) == 1797


def test_a_large_set_is_sampled(convoy: Convoy) -> None:
    done = convoy("data", "data=digits", "limit=500")
    assert "500 of them, a random sample, were read" in done.out or "499 of them" in done.out
    assert "limit=0 reads all" in done.out
    found = report(convoy, "data=digits", "limit=500")
    assert sum(facts["images"] for facts in found["splits"].values()) == 1797
    assert found == report(convoy, "data=digits", "limit=500")


def write_table(folder: Path) -> None:
    rows = ["file,species,habitats,length,weight"]
    for number in range(20):
        photograph(number).save(folder / f"{number}.png")
        habitats = "" if number == 0 else "river|lake" if number % 2 else "sea"
        rows.append(f"{number}.png,{'pike' if number % 4 else 'carp'},{habitats},{number},{-number / 2}")
    (folder / "labels.csv").write_text("\n".join(rows))


def test_values_and_labels_of_a_table(convoy: Convoy, tmp_path: Path) -> None:
    write_table(tmp_path)
    table = ("data=table", "data.file=labels.csv", "data.image_column=file")
    found = report(convoy, *table, "task=regression", "data.target_column=[length,weight]")
    splits = found["splits"]
    assert sum(facts["images"] for facts in splits.values()) == 20
    lengths = [splits[name]["values"]["length"] for name in ("train", "val")]
    assert min(one["least"] for one in lengths) == 0
    assert max(one["most"] for one in lengths) == 19
    train = splits["train"]
    assert train["values"]["weight"]["mean"] == pytest.approx(-train["values"]["length"]["mean"] / 2)
    assert train["values"]["weight"]["deviation"] == pytest.approx(train["values"]["length"]["deviation"] / 2)

    words = (*table, "task=multilabel", "data.target_column=habitats")
    splits = report(convoy, *words)["splits"]
    totals = {name: sum(facts["counts"][name] for facts in splits.values()) for name in ("lake", "river", "sea")}
    assert totals == {"lake": 10, "river": 10, "sea": 9}
    assert convoy("data", *words).code == 0
    done = convoy("data", *table, "task=regression", "data.target_column=length")
    assert "deviation" in done.out


def test_many_classes_are_shortened(convoy: Convoy, tmp_path: Path) -> None:
    for label in range(30):
        (tmp_path / "many" / f"class{label:02}").mkdir(parents=True)
        for number in range(5 + label):
            Image.new("RGB", (8, 8), (label, number, 9)).save(tmp_path / "many" / f"class{label:02}" / f"{number}.png")
    words = ("data", "data=many", "data.image_size=8", "data.eval_resize=null", "data.val_fraction=0.2")
    assert "20 more (all_classes=true)" in convoy(*words).out
    assert "class15" not in convoy(*words).out
    assert "class15" in convoy(*words, "all_classes=true").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "data: must be set; write data=<option>"),
        (("data=cifar11",), "cifar10"),
        (("data=missing_folder/x",), "missing_folder/x"),
        (("data=digits", "limit=-1"), "limit=-1"),
        (("data=digits", "model=vgg16"), "model"),
        (("data=digits", "format=html"), "format=html"),
        (("digits",), "digits: data has no such key; did you mean data=digits?"),
        (("data=digits", "-m"), "look at one data set at a time"),
    ],
)
def test_mistakes_are_reported(convoy: Convoy, words: tuple[str, ...], message: str) -> None:
    done = convoy("data", *words)
    assert done.code == 2
    assert message in done.err
    assert not done.out
