"""Data sets of masks in the layouts in which they are published, and lists of names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convoy.config.faults import UserError
from convoy.data.located.class_table import mask_classes
from convoy.data.located.mask_files import MaskReader
from convoy.data.located.mask_folders import mask_folders
from convoy.data.opening.open_data import open_data
from convoy.data.targets import IGNORED
from convoy.training.preflight import read


def save(root: Path, name: str, value: int = 0, mode: str = "L") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("L" if mode == "P" else mode, (40, 30), value)
    if mode == "P":
        image.putpalette([value for index in range(256) for value in (index, 255 - index, 9)])
    image.save(path)


def opened(*overrides: str):  # type: ignore[no-untyped-def]
    return read(["task=segmentation", "model=unet", "logger=csv", *overrides]).data


def test_cityscapes_in_its_published_layout(tmp_path: Path) -> None:
    for split, count in (("train", 2), ("val", 1), ("test", 1)):
        for city in ("aachen", "bochum")[:count]:
            frame = f"{split}/{city}/{city}_000000_000019"
            save(tmp_path, f"leftImg8bit/{frame}_leftImg8bit.png", 90, "RGB")
            for kind in ("color", "instanceIds", "labelIds"):
                save(tmp_path, f"gtFine/{frame}_gtFine_{kind}.png", 26 if kind == "labelIds" else 1)
            (tmp_path / f"gtFine/{frame}_gtFine_polygons.json").write_text("{}")
    data = opened("data=cityscapes", f"data.root={tmp_path}")
    targets, files, _ = mask_folders(data)
    assert {split: len(one) for split, one in files.items()} == {"train": 2, "val": 1}
    assert [Path(path).name for path in files["train"].targets] == [
        "aachen_000000_000019_gtFine_labelIds.png",
        "bochum_000000_000019_gtFine_labelIds.png",
    ]
    read_mask = MaskReader(mask_classes(data), data.ignored_values)
    assert targets.names[read_mask(files["train"].targets[0])[0, 0]] == "car"
    # Every label id of the data set is a class that is evaluated, or is not counted.
    Image.fromarray(np.arange(34, dtype=np.uint8)[None]).save(tmp_path / "all.png")
    indices = read_mask(str(tmp_path / "all.png"))[0]
    assert (indices != IGNORED).sum() == len(targets.names) == 19
    assert [indices[value] for value in (7, 8, 11, 33)] == [0, 1, 2, 18]  # the train ids of cityscapesScripts


def test_voc_in_its_published_layout(tmp_path: Path) -> None:
    for name in ("2007_000032", "2007_000033", "2007_000039", "2007_000042"):
        save(tmp_path, f"JPEGImages/{name}.jpg", 90, "RGB")
    for name, value in (("2007_000032", 20), ("2007_000033", 255), ("2007_000039", 0)):
        save(tmp_path, f"SegmentationClass/{name}.png", value, "P")
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name, lines in (("train", "2007_000039\n2007_000032\n"), ("val", "2007_000033\n"), ("test", "2008_000006\n")):
        (lists / f"{name}.txt").write_text(lines)
    data = opened("data=voc_segmentation", f"data.root={tmp_path}")
    targets, files, _ = mask_folders(data)
    assert len(targets.names) == 21
    assert {split: [Path(path).stem for path in one.paths] for split, one in files.items()} == {
        "train": ["2007_000039", "2007_000032"],
        "val": ["2007_000033"],
    }
    read_mask = MaskReader(mask_classes(data), data.ignored_values)
    assert targets.names[read_mask(files["train"].targets[1])[0, 0]] == "tvmonitor"
    assert (read_mask(files["val"].targets[0]) == IGNORED).all()
    (lists / "val.txt").write_text("2007_000042\n")
    with pytest.raises(UserError, match=r"2007_000042\.jpg has no mask .*SegmentationClass/2007_000042\.\*"):
        mask_folders(data)
    (lists / "val.txt").write_text("2009\n")
    with pytest.raises(UserError, match=r"data\.split_files=ImageSets/Segmentation: names 2009, and there is no"):
        mask_folders(data)
    (lists / "val.txt").write_text("2007_000033.jpg\n")
    with pytest.raises(UserError, match=r"names 2007_000033\.jpg, and there is no .*; write names without endings"):
        mask_folders(data)
    (lists / "train.txt").unlink()
    with pytest.raises(UserError, match=r"data\.split_files: .*train\.txt can't be read"):
        mask_folders(data)


def test_camvid_has_its_published_splits(real_data: Callable[[str], Path]) -> None:
    data = opened("data=camvid", f"data.root={real_data('camvid')}")
    with_images = open_data(data, 1)
    assert with_images.sizes == {"train": 367, "val": 101, "test": 233}
    assert with_images.targets.names[:3] == ("sky", "building", "pole")
    assert len(with_images.targets.names) == 11


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.classes={road: 7, sky: 7}"], "data.classes: gives two classes the same value"),
        (["data.classes={road: 7, sky: 300}"], "data.classes: sky: 300 is no value of a mask"),
        (["data.classes=[a]", "data.splits=[val]"], "data.splits=[val]: must be train and any of val and test"),
    ],
)
def test_mistakes_are_named(overrides: list[str], message: str, tmp_path: Path) -> None:
    save(tmp_path, "images/a.png", 0, "RGB")
    save(tmp_path, "masks/a.png")
    with pytest.raises(UserError) as caught:
        opened("data=segmentation_folder", f"data.root={tmp_path}", *overrides)
    assert message in str(caught.value)
