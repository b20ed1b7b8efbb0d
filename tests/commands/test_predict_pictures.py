"""Tests of convoy predict output=…: masks, restored images, points and drawings in the size of the files."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Run

CPU = (
    "logger=csv",
    "trainer.gpus=0",
    "trainer.precision=32",
    "trainer.max_steps=2",
    "trainer.global_batch_size=2",
    "hardware.cpu_threads=1",
    "ledger.measure_steps=0",
)
SIZES = ((40, 30), (31, 47))
"""Width and height of the images that are predicted."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for index in range(6):
        for kind, shape in (("images", (32, 48, 3)), ("masks", (32, 48))):
            path = tmp_path / "set" / kind / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = generator.integers(0, 3 if kind == "masks" else 256, shape, dtype=np.uint8)
            Image.fromarray(values).save(path)
    for index, (width, height) in enumerate(SIZES):
        path = tmp_path / "new" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return tmp_path / "set"


def predicted(convoy: Callable[..., Run], words: Sequence[str]) -> dict[str, Image.Image]:
    trained = convoy("train", *words, *CPU)
    assert trained.code == 0, trained.err
    shown = convoy("predict", "run=run", "new", "output=out", "format=jsonl", folder=None)
    assert shown.code == 0, shown.err
    lines = Path("out/predictions.jsonl").read_text()
    assert lines == shown.out
    assert [json.loads(line)["image"] for line in lines.splitlines()] == ["new/0.png", "new/1.png"]
    return {path.name: Image.open(path) for path in sorted(Path("out").glob("*.png"))}


def test_masks_have_the_size_of_the_file_and_a_palette(convoy: Callable[..., Run], images: Path) -> None:
    words = ("data=segmentation_folder", f"data.root={images}", "data.classes=[a,b,c]", "data.image_size=[32,48]")
    words = (*words, "data.val_fraction=0.2", "data.test_fraction=0.2", "data.augment.scale_jitter=null", "model=unet")
    found = predicted(convoy, [*words, "model.width=4", "model.depth=2", "task.window=16"])
    assert list(found) == ["0-drawn.png", "0.png", "1-drawn.png", "1.png"]
    for index, size in enumerate(SIZES):
        assert found[f"{index}.png"].size == found[f"{index}-drawn.png"].size == size
        assert found[f"{index}.png"].mode == "P"
        assert np.asarray(found[f"{index}.png"]).max() <= 2
    # Image, mask and prediction are side by side on the page of the run.
    worst = json.loads(Path("run/mistakes.json").read_text())["images"]
    assert {entry["pictures"] for entry in worst} == {3}
    picture = Image.open(BytesIO(base64.b64decode(worst[0]["image"].partition(",")[2])))
    assert picture.size == (3 * 48, 32)


def test_restored_images_are_larger(convoy: Callable[..., Run], images: Path) -> None:
    words = ("data=super_resolution", f"data.root={images / 'images'}", "data.image_size=8", "data.val_fraction=0.4")
    found = predicted(convoy, [*words, "data.degradation.scale=2", "model=espcn"])
    assert list(found) == ["0.png", "1.png"]
    for index, (width, height) in enumerate(SIZES):
        assert found[f"{index}.png"].size == (2 * width, 2 * height)


def test_pictures_replace_no_image(convoy: Callable[..., Run], images: Path) -> None:
    words = ("data=super_resolution", f"data.root={images / 'images'}", "data.image_size=8", "data.val_fraction=0.4")
    assert convoy("train", *words, "data.degradation.scale=2", "model=espcn", *CPU).code == 0
    before = Path("new/0.png").read_bytes()
    for folder in ("new", "new/../new"):
        done = convoy("predict", "run=run", "new", f"output={folder}", folder=None)
        assert done.code == 2
        assert "has the image new/0.png, which a picture could replace; name another folder" in done.err
    assert Path("new/0.png").read_bytes() == before
    # Images of the same name in two folders, and one with the name of a drawing.
    Path("more").mkdir()
    for name in ("more/0.png", "more/0-drawn.png"):
        Path(name).write_bytes(before)
    assert convoy("predict", "run=run", "new/0.png", "more", "output=out", folder=None).code == 0
    assert sorted(path.name for path in Path("out").glob("*.png")) == ["0-2.png", "0-drawn-2.png", "0.png"]


def test_points_are_in_pixels_of_the_file(convoy: Callable[..., Run], images: Path) -> None:
    table = images / "points.csv"
    rows = [f"images/{index}.png,10,20,30,5" for index in range(6)]
    table.write_text("\n".join(["image,a_x,a_y,b_x,b_y", *rows]) + "\n")
    words = ("data=keypoint_table", f"data.file={table}", "data.image_column=image", "data.image_size=[16,24]")
    words = (*words, "data.val_fraction=0.4", "model=stacked_hourglass", "model.channels=8", "model.depth=1")
    found = predicted(convoy, words)
    assert {name: image.size for name, image in found.items()} == {"0-drawn.png": SIZES[0], "1-drawn.png": SIZES[1]}
    for line, (width, height) in zip(Path("out/predictions.jsonl").read_text().splitlines(), SIZES, strict=True):
        for point in json.loads(line)["points"].values():
            # The input is 24x16, of which an upright image fills a part.
            scale = max(width / 24, height / 16)
            assert -scale <= point["x"] <= 24 * scale
            assert -scale <= point["y"] <= 16 * scale
